// What every view does with the element it is given: the keys it keeps to itself, drawing again when something changes, errors it shows.

import type { Model } from "../host.ts";
import { watch } from "./reading.ts";
import "../tokens.css";
import "./view.css";

/** Calls `draw` now and whenever one of `keys` changes; the answer takes everything down again. */
export function frame(model: Model, el: HTMLElement, keys: string[], draw: (root: HTMLElement) => void): () => void {
  el.classList.add("residscope", "view");
  el.classList.toggle("alone", !model.get("bare"));
  // JupyterLab reads keys before they get here; the attribute asks it not to.
  el.dataset.lmSuppressShortcuts = "true";
  const keep = (event: Event): void => event.stopPropagation();
  el.addEventListener("keydown", keep);
  const root = document.createElement("div");
  const problem = document.createElement("p");
  problem.className = "problem";
  el.replaceChildren(root, problem);
  const failed = (yes: boolean): void => {
    root.hidden = yes; // no picture of something else stands under the problem
    problem.hidden = !yes;
  };
  const update = (): void => {
    try {
      draw(root);
      failed(false);
    } catch (error) {
      failed(true);
      problem.textContent = `This view cannot be drawn. ${error instanceof Error ? error.message : error}`;
      console.error(error);
    }
  };
  update();
  const stop = watch(model, keys, update);
  return () => {
    stop();
    el.removeEventListener("keydown", keep);
    el.replaceChildren();
  };
}
