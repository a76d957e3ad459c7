// What every view does with the element it is given: a header where it stands alone, the keys it keeps to itself, errors it shows.

import { render } from "preact";
import type { Model } from "../host.ts";
import { counted } from "../numbers.ts";
import { Header } from "./legend.tsx";
import { type Payload, readModel, type Reading, watch } from "./reading.ts";
import "../tokens.css";
import "./view.css";

const KEYS = ["data", "payload", "values", "units", "centre", "scale", "picked"];

/** A text, or what is drawn of it, under its label: where nothing around the view says it. */
export function titled(label: string, el: HTMLElement): HTMLElement {
  const section = document.createElement("section");
  const heading = document.createElement("h2");
  section.className = "text";
  heading.textContent = label;
  section.append(heading, el);
  return section;
}

/** The label of each text with its length: "text 0, 46 tokens". */
export function labelsOf(model: Model, { pieces }: Payload): string[] {
  const labels = model.get("labels") as string[] | undefined;
  return pieces.map((text, i) => `${labels?.[i] ?? `text ${i}`}, ${counted(text.length, "token")}`);
}

/** `draw` is called with each new reading and answers the end of its colour range; the answer takes everything down again. */
export function frame(model: Model, el: HTMLElement, draw: (reading: Reading, body: HTMLElement) => number): () => void {
  const alone = !model.get("bare");
  el.classList.add("residscope", "view");
  el.classList.toggle("alone", alone);
  // JupyterLab reads keys before they get here; the attribute asks it not to.
  el.dataset.lmSuppressShortcuts = "true";
  const keep = (event: Event): void => event.stopPropagation();
  el.addEventListener("keydown", keep);
  const header = document.createElement("header");
  const body = document.createElement("div");
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.hidden = true;
  el.replaceChildren(...(alone ? [header, body] : [body]), problem);
  const write = (key: string, value: unknown): void => {
    model.set(key, value);
    model.save_changes();
  };
  const update = (): void => {
    try {
      const reading = readModel(model);
      const limit = draw(reading, body);
      problem.hidden = true;
      const { payload, units, centre, scale } = reading;
      if (alone)
        render(
          <Header
            payload={payload}
            units={units}
            centre={centre}
            scale={scale}
            limit={limit}
            leftOut={payload.left_out}
            several={reading.shape[0] > 1}
            onUnits={(value) => write("units", value)}
            onCentre={(value) => write("centre", value)}
            onScale={(value) => write("scale", value)}
          />,
          header,
        );
    } catch (error) {
      problem.hidden = false;
      problem.textContent = `This view cannot be drawn. ${error instanceof Error ? error.message : error}`;
      console.error(error);
    }
  };
  update();
  const stop = watch(model, KEYS, update);
  return () => {
    stop();
    el.removeEventListener("keydown", keep);
    render(null, header);
    el.replaceChildren();
  };
}
