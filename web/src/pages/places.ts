// The places of the workbench. A new page is a new line here.

import type { FunctionComponent } from "preact";
import type { Command } from "./keys.ts";
import { commands, entries, Stream } from "./stream/stream.tsx";

export interface Place {
  name: string;
  paths: readonly string[];
  Page: FunctionComponent;
  commands: readonly Command[];
  entries: (query: string) => Command[]; // what a search finds here
}

export const PLACES: readonly Place[] = [{ name: "Stream", paths: ["/", "/stream"], Page: Stream, commands, entries }];
