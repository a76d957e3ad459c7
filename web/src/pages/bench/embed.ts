// A page that the server wrote, with cards of what it shows: they open where nothing can be asked any more.

import { dismiss, tell } from "../notes.tsx";
import { server } from "../server.ts";
import type { Ask } from "./bench.ts";

/** What is asked for of something that a view leads to. */
export interface Embedded extends Ask {
  of: string; // "resid_pre.3 564"
}

const SAID = 10; // cards from one note to the next

/** The page with these cards in it. How far it is, is said, and can be stopped. */
export async function embedCards(page: Blob, cards: readonly Embedded[]): Promise<Blob> {
  const controller = new AbortController();
  const act = { text: "Stop", run: () => controller.abort() };
  const scripts: string[] = [];
  let note = -1;
  try {
    // One after the other, so that others need not wait for all.
    for (const { of, path, body } of cards) {
      if (scripts.length % SAID === 0) {
        dismiss(note);
        note = tell(`Cards of features are put into the file: ${scripts.length} of ${cards.length}.`, { act });
      }
      scripts.push(`<script type="application/gzip" class="card" data-of="${of}">${await pack(await server.analysis(path, body, () => {}, controller.signal))}</script>\n`);
    }
  } finally {
    dismiss(note);
  }
  const text = await page.text();
  const start = text.indexOf('<script type="application/gzip" class="data">');
  return new Blob([text.slice(0, start), ...scripts, text.slice(start)], { type: "text/html" });
}

/** Bytes as a script of a page holds them. */
async function pack(data: Uint8Array<ArrayBuffer>): Promise<string> {
  const zipped = await new Response(new Blob([data]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
  return btoa(Array.from(new Uint8Array(zipped), (byte) => String.fromCharCode(byte)).join(""));
}
