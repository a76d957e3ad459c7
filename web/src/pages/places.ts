// The places of the workbench. A new page is a new line here.

import type { FunctionComponent } from "preact";
import type { Bench } from "./bench/bench.ts";
import { bench as graph, entries as nodes, Graph } from "./bench/graph.tsx";
import { bench as heads, Heads } from "./bench/heads.tsx";
import { bench as lens, Lens } from "./bench/lens.tsx";
import { bench as patch, Patch } from "./bench/patch.tsx";
import type { Command } from "./keys.ts";
import { Runs } from "./runs/runs.tsx";
import { start as startRuns } from "./runs/state.ts";
import { Saved } from "./saved/saved.tsx";
import { start as startSaved } from "./saved/state.ts";
import { start } from "./stream/history.ts";
import { commands, entries, Stream } from "./stream/stream.tsx";

export interface Place {
  name: string;
  paths: readonly string[];
  Page: FunctionComponent;
  start: () => void;
  commands: readonly Command[];
  entries: (query: string) => Command[]; // what a search finds here
  leave?: () => boolean; // lets go of what is picked; whether anything was
}

const benchPlace = (name: string, Page: FunctionComponent, bench: Bench): Place => ({
  name,
  paths: [`/${name.toLowerCase()}`],
  Page,
  start: bench.start,
  commands: [
    { id: "link", label: "Copy link", key: "l", run: () => void bench.link() },
    { id: "export", label: "Go to the exports", key: "e", run: () => document.querySelector<HTMLElement>(".files button")?.focus() },
    { id: "save", label: "Save the result", key: "s", run: () => bench.answer.value && bench.saveResult() },
    { id: "prompt", label: "Write the prompt", key: "t", run: () => document.querySelector<HTMLElement>(".prompt textarea")?.focus() },
  ],
  entries: () => [],
  leave: bench.leave,
});

export const PLACES: readonly Place[] = [
  { name: "Stream", paths: ["/", "/stream"], Page: Stream, start, commands, entries },
  benchPlace("Lens", Lens, lens),
  benchPlace("Patch", Patch, patch),
  benchPlace("Heads", Heads, heads),
  { ...benchPlace("Graph", Graph, graph), entries: nodes },
  { name: "Saved", paths: ["/saved"], Page: Saved, start: startSaved, commands: [{ id: "words", label: "Look for words", key: "w", run: () => document.getElementById("words")?.focus() }], entries: () => [] },
  { name: "Runs", paths: ["/runs"], Page: Runs, start: startRuns, commands: [], entries: () => [] },
];

export const place = PLACES.find(({ paths }) => paths.includes(location.pathname)) ?? PLACES[0];
