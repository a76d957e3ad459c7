// What changed from one run to another: every site by position, 0 unchanged, 1 as much as was there.

import { useMemo } from "preact/hooks";
import { plain } from "../numbers.ts";
import { type Heat, heatDrawing, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { below, fieldsOf, oneOf } from "./look.ts";
import { FIRST_LEFT_OUT, type Named, present, rangeOf, type Shown, Stand, withoutFirst } from "./present.tsx";
import { visiblePiece } from "./reading.ts";

interface Payload extends Named {
  sites: string[];
  pieces: string[][];
  other_pieces: string[][];
}

interface Chosen {
  text: number;
  kind: string; // of site, or ALL
}

interface Picked {
  site: string;
  pos: number;
}

const ALL = "";
const kindOf = (site: string): string => site.split(".")[0];

function Comparison({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Picked>) {
  const { sites, pieces, other_pieces } = payload;
  const kinds = useMemo(() => [...new Set(sites.map(kindOf))], [sites]);
  const { text = 0, kind = kinds.includes("resid_pre") ? "resid_pre" : kinds[0] } = chosen;
  const rows = useMemo(() => [...sites.keys()].filter((i) => kind === ALL || kindOf(sites[i]) === kind), [sites, kind]);
  const [columns, width] = [pieces[text].length, arrays.values.shape[2]];
  const values = useMemo(
    () => Float32Array.from({ length: rows.length * columns }, (_, i) => arrays.values.data[(text * sites.length + rows[Math.floor(i / columns)]) * width + (i % columns)]),
    [arrays, rows, text],
  );
  const shaded = useMemo(() => withoutFirst(values, columns), [values]);
  const range = rangeOf(shaded.filter(Number.isFinite), scale, "of what was there");
  const valueAt = (row: number, column: number): number => values[row * columns + column];
  const both = (pos: number): string => (pieces[text][pos] === other_pieces[text][pos] ? "" : `→${visiblePiece(other_pieces[text][pos])}`);
  const heat: Heat = {
    rows: rows.map((i) => ({ text: sites[i] })),
    columns: pieces[text].map((piece, index) => ({ index, text: visiblePiece(piece), below: both(index) || undefined, mark: both(index) !== "" })),
    steps: useMemo(() => stepsOf(shaded, range.limit), [shaded, range.limit]),
    upward: true,
    words: ({ row, column }) => plain(valueAt(row, column)),
    width: [12, 60],
    height: rows.length > 40 ? 13 : 20,
  };
  const caption = `Change of ${kind || "every site"}, |b − a| / |a|`;
  const options = [...kinds.map((name) => [name, name] as const), [ALL, "every site"] as const];
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={caption}
      sentence={
        <>
          Show the change of <Word label="Kind of site" value={kind} options={options} onChange={(kind) => (pick(null), choose({ kind }))} />
          {pieces.length > 1 && (
            <>
              {" "}
              in <Word label="Text" value={String(text)} options={pieces.map((_, i) => [String(i), `text ${i}`])} onChange={(text) => choose({ text: Number(text) })} />
            </>
          )}
        </>
      }
      range={{ ...range, scale, each: null, onScale }}
      notes={["0 is unchanged, 1 a change as large as the value was", columns > 1 ? FIRST_LEFT_OUT : null]}
      drawing={() => heatDrawing(heat)}
      table={() => [["site", "pos", "token", "other_token", "value"], ...rows.flatMap((i, row) => pieces[text].map((piece, pos) => [sites[i], pos, piece, other_pieces[text][pos], valueAt(row, pos)]))]}
    >
      <HeatMap
        {...heat}
        label={`${caption}, ${rows.length} sites by ${columns} positions`}
        picked={picked ? [{ row: rows.findIndex((i) => sites[i] === picked.site), column: picked.pos }].filter(({ row }) => row >= 0) : []}
        number={({ row, column }) => plain(valueAt(row, column))}
        tip={({ row, column }) => ({ piece: sites[rows[row]], value: plain(valueAt(row, column)), facts: [`${column} ${visiblePiece(pieces[text][column])}${both(column)}`] })}
        onPick={({ row, column }) => pick({ site: sites[rows[row]], pos: column })}
      />
    </Stand>
  );
}

export default present(Comparison, ({ sites, pieces }, { values: { shape } }) => ({
  chosen: { text: below(pieces.length), kind: oneOf(ALL, ...sites.map(kindOf)) },
  picked: fieldsOf({ site: oneOf(...sites), pos: below(shape[2]) }),
}));
