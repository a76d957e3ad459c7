// A saved file: its views, their data beside them, no network.

import { hostedModel } from "./host.ts";
import { parseArrays } from "./arrays.ts";
import { VIEWS } from "./views/table.ts";
import "./saved.css";

/** Shows what a script of this page holds, at the end of the page. */
async function show(script: Element): Promise<void> {
  const el = document.createElement("div");
  document.getElementById("view")!.append(el);
  try {
    const zipped = new Blob([Uint8Array.from(atob(script.textContent!.trim()), (char) => char.charCodeAt(0))]);
    const data = await new Response(zipped.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    const { payload } = parseArrays<{ view: string; name: string }>(data);
    const view = VIEWS[payload.view];
    if (!view) throw new Error(`No view is called "${payload.view}"; this file knows ${Object.keys(VIEWS).join(", ")}.`);
    document.documentElement.classList.add("residscope");
    document.title ||= payload.name;
    view.render({ model: hostedModel({ data }), el });
  } catch (error) {
    el.textContent = `This file cannot be shown. ${error instanceof Error ? error.message : error}`;
  }
}

for (const script of document.querySelectorAll(".data")) void show(script);
