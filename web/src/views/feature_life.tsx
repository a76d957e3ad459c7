// A feature's life in the stream: how much of it is there before every layer, and what each head and MLP adds to it or takes away.

import { plain, signed, within } from "../numbers.ts";
import { type Heat, heatDrawing, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { below, oneOf } from "./look.ts";
import { widthOf } from "./pen.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";

interface Payload extends Named {
  sides: string[];
  parts: string[];
  rows: string[];
  here: number[];
  pos: number[];
  tokens: string[];
  settings: Named["settings"] & { unit: string };
}

interface Chosen {
  side: string;
  text: number;
}

const ROOM = 720; // px of a file
const SIDES: Record<string, string> = { decoder: "what the feature writes", encoder: "what it reads", direction: "the direction" };

/** "head 3" as a column says it. */
const short = (part: string): string => part.replace("head ", "h").replace("attention ", "");

function FeatureLife({ payload, arrays, alone, tools, chosen, choose, scale, onScale }: Shown<Payload, Chosen, never>) {
  const { sides, parts, rows, here, pos, tokens, settings } = payload;
  const { side = sides[0], text = 0 } = chosen;
  const n_layers = rows.length - 1;
  const at = text * sides.length + sides.indexOf(side);
  const values = arrays.values.data.subarray(at * n_layers * parts.length, (at + 1) * n_layers * parts.length);
  const stream = arrays.stream.data.subarray(at * rows.length, (at + 1) * rows.length);
  const range = rangeOf(values, scale, "of the stream");
  const { limit } = range;
  const born = here[sides.indexOf(side)];
  const heat: Heat = {
    // The last row has nothing that adds to it: it is what is there in the end.
    rows: rows.map((_, i) => ({ text: `${i < n_layers ? `before ${i}` : "after all"} ${signed(stream[i])}`, mark: i === born })),
    columns: parts.map((part) => ({ text: short(part) })),
    steps: stepsOf(Float32Array.from({ length: rows.length * parts.length }, (_, i) => values[i] ?? NaN), limit),
    upward: true,
    words: ({ row, column }) => (row < n_layers ? within(values[row * parts.length + column], limit) : ""),
    wordWidth: widthOf(within(-limit, limit)) + 4,
    width: [14, 52],
    height: 22,
  };
  const where = `at ${pos[text]} “${visiblePiece(tokens[text])}”`;
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={`Along ${SIDES[side]}, ${where}`}
      sentence={
        <>
          <span>
            Follow <Word label="Side" value={side} options={sides.map((one) => [one, SIDES[one]] as const)} onChange={(side) => choose({ side })} />
          </span>{" "}
          <span>{tokens.length > 1 ? <Word label="Text" value={String(text)} options={tokens.map((token, i) => [String(i), `in text ${i}, at ${pos[i]} “${visiblePiece(token)}”`])} onChange={(text) => choose({ text: Number(text) })} /> : where}</span>
        </>
      }
      range={{ ...range, signed: true, scale, each: null, onScale }}
      notes={["beside the layers what is there of it; across, what each part of the layer adds", settings.unit]}
      drawing={() => heatDrawing(heat, ROOM)}
      table={() => [
        ["layer", "part", "value"],
        ...rows.slice(0, -1).flatMap((_, layer) => parts.map((part, i) => [layer, part, values[layer * parts.length + i]])),
      ]}
    >
      <HeatMap
        {...heat}
        label={`What every part of every layer adds along ${SIDES[side]}`}
        number={({ row, column }) => (row < n_layers ? plain(values[row * parts.length + column]) : "")}
        tip={({ row, column }) => ({
          piece: row < n_layers ? `${parts[column]} of layer ${row}` : rows[row],
          value: signed(row < n_layers ? values[row * parts.length + column] : stream[row]),
          facts: row < n_layers ? [`${signed(stream[row])} before the layer, ${signed(stream[row + 1])} after`] : ["in the end"],
        })}
      />
    </Stand>
  );
}

export default present(FeatureLife, ({ sides, tokens }) => ({ chosen: { side: oneOf(...sides), text: below(tokens.length) } }));
