import { useState } from "preact/hooks";
import { drawPng, saveFile } from "../../views/files.ts";
import { copyText, say } from "../notes.tsx";
import { server } from "../server.ts";
import { writeAddress } from "./history.ts";
import { drawSvg } from "./picture.ts";
import { alongOf, panelsOf, picture, wanted } from "./state.ts";

function download(blob: Blob, extension: string): void {
  say(`${saveFile(blob, picture.value!.name, extension)} saved to your downloads.`, { seconds: 4 });
}

async function fromServer(format: "html" | "csv" | "python"): Promise<Response> {
  const { texts } = picture.value!;
  const { free, centre } = wanted.value;
  const panels = panelsOf(picture.value!).map((panel) => ({ site: panel.site, along: alongOf(panel) }));
  return server.export(format, { texts: texts.filter(({ problem }) => !problem).map(({ text }) => text), panels, free, centre });
}

const svg = (): string => drawSvg(document.querySelector<HTMLElement>("main")!);

export const EXPORTS: readonly (readonly [name: string, title: string, run: () => Promise<void>])[] = [
  ["Link", "Copy a link to what is shown", async () => copyText(await writeAddress(), "Link")],
  ["Python", "Copy the code that computes this picture", async () => copyText(await (await fromServer("python")).text(), "Python code")],
  ["PNG", "Save the picture as pixels", async () => download(await drawPng(svg()), "png")],
  ["SVG", "Save the picture as a drawing", async () => download(new Blob([svg()], { type: "image/svg+xml" }), "svg")],
  ["CSV", "Save one row a token", async () => download(await (await fromServer("csv")).blob(), "csv")],
  ["HTML", "Save one file that opens with no network", async () => download(await (await fromServer("html")).blob(), "html")],
];

/** Runs one of the exports and says what went wrong. */
export async function runExport(name: string): Promise<void> {
  if (!picture.value) return say("There is nothing to export yet.", { seconds: 4 });
  try {
    await EXPORTS.find(([known]) => known === name)![2]();
  } catch (error) {
    say(`${name} could not be made. ${error instanceof Error ? error.message : error}`);
  }
}

export function Exports() {
  const [busy, setBusy] = useState<string | null>(null);
  const click = async (name: string): Promise<void> => {
    setBusy(name);
    await runExport(name);
    setBusy(null);
  };
  return (
    <div class="tools" role="group" aria-label="Export">
      {EXPORTS.map(([name, title]) => (
        <button key={name} type="button" title={title} disabled={!picture.value || busy === name} onClick={() => click(name)}>
          {name}
        </button>
      ))}
    </div>
  );
}
