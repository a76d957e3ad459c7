// A saved file: one view, its data beside it, no network.

import { hostedModel } from "./host.ts";
import type { View } from "./host.ts";
import { parseArrays } from "./arrays.ts";
import type { Payload } from "./views/reading.ts";
import colouredText from "./views/coloured_text.tsx";
import river from "./views/river.tsx";
import "./saved.css";

const VIEWS: Record<string, View> = { coloured_text: colouredText, river };

const el = document.getElementById("view")!;
try {
  const text = document.getElementById("data")!.textContent!;
  const data = Uint8Array.from(atob(text.trim()), (char) => char.charCodeAt(0));
  const { payload } = parseArrays<Payload>(data);
  const view = VIEWS[payload.view];
  if (!view) throw new Error(`No view is called "${payload.view}"; this file knows ${Object.keys(VIEWS).join(", ")}.`);
  document.documentElement.classList.add("residscope");
  document.title ||= payload.name;
  view.render({ model: hostedModel({ data }), el });
} catch (error) {
  el.textContent = `This file cannot be shown. ${error instanceof Error ? error.message : error}`;
}
