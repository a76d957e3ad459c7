// A saved file: its views, their data beside them, no network. Some hold cards of what is picked in them.

import { hostedModel } from "./host.ts";
import { parseArrays } from "./arrays.ts";
import feature from "./views/feature.tsx";
import type { Presented } from "./views/present.tsx";
import { VIEWS } from "./views/table.ts";
import "./saved.css";

/** The bytes that a script holds. */
async function unpack(script: Element): Promise<ArrayBuffer> {
  const zipped = new Blob([Uint8Array.from(atob(script.textContent!.trim()), (char) => char.charCodeAt(0))]);
  return new Response(zipped.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Shows what a script of this page holds, at the end of the page. */
async function show(script: Element): Promise<void> {
  const el = document.createElement("div");
  document.getElementById("view")!.append(el);
  try {
    const data = await unpack(script);
    const { payload } = parseArrays<{ view: string; name: string }>(data);
    const view = VIEWS[payload.view];
    if (!view) throw new Error(`No view is called "${payload.view}"; this file knows ${Object.keys(VIEWS).join(", ")}.`);
    document.documentElement.classList.add("residscope");
    document.title ||= payload.name;
    const model = hostedModel({ data });
    view.render({ model, el });
    if (!document.querySelector(".card")) return;
    const open = cardsBeside(el);
    const show = (): void => void open((view as Presented).onward(data, model.get("picked") ?? null).features ?? []);
    model.on("change:picked", show);
    show();
  } catch (error) {
    el.textContent = `This file cannot be shown. ${error instanceof Error ? error.message : error}`;
  }
}

/** Opens the card of a feature beside a view, where the page holds it. */
function cardsBeside(el: Element): (features: readonly { site: string; feature: number; name: string }[]) => Promise<void> {
  const aside = Object.assign(document.createElement("aside"), { className: "beside" });
  aside.setAttribute("aria-label", "Card of what is picked");
  el.parentElement!.classList.add("wide");
  el.after(aside);
  const say = (text: string): void => aside.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
  const start = (): void => say("What is picked in the graph is shown here closer.");
  let asked = 0;
  return async ([picked]) => {
    const mine = ++asked;
    if (!picked) return start();
    const script = [...document.querySelectorAll<HTMLElement>(".card")].find(({ dataset }) => dataset.of === `${picked.site} ${picked.feature}`);
    if (!script) return say(`This file has no card of ${picked.name}: it has those of what was shown and pinned when it was saved.`);
    const data = await unpack(script);
    if (mine !== asked) return;
    const card = document.createElement("div");
    aside.replaceChildren(card);
    feature.render({ model: hostedModel({ data }), el: card });
  };
}

for (const script of document.querySelectorAll(".data")) void show(script);
