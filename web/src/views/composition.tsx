// What every head gives to every head of a later layer, beyond chance: writers by readers.

import { useMemo } from "preact/hooks";
import { plain, signed, within } from "../numbers.ts";
import { type Cell, type Heat, heatDrawing, isSame, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { widthOf } from "./pen.ts";
import { type Head, oneCellOf } from "./look.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";

interface Payload extends Named {
  chance: number;
  chance_sd: number;
}

function Composition({ payload, arrays, alone, tools, picked, pick, scale, onScale }: Shown<Payload, object, Cell>) {
  const { shape, data } = arrays.values;
  const [n_layers, n_heads] = shape;
  const size = n_layers * n_heads;
  // Heads of the last layer write for none, those of the first read of none.
  const [writers, readers] = [[...Array(size - n_heads).keys()], [...Array(size - n_heads).keys()].map((i) => i + n_heads)];
  const name = (i: number): string => `${Math.floor(i / n_heads)}.${i % n_heads}`;
  const valueAt = ({ row, column }: Cell): number => data[writers[row] * size + readers[column]];
  const values = useMemo(() => Float32Array.from({ length: writers.length * readers.length }, (_, i) => valueAt({ row: Math.floor(i / readers.length), column: i % readers.length })), [arrays]);
  const range = { ...rangeOf(values, scale, ""), signed: true };
  const heat: Heat = {
    rows: writers.map((i) => ({ text: name(i) })),
    columns: readers.map((i) => ({ text: name(i) })),
    steps: useMemo(() => stepsOf(values, range.limit), [values, range.limit]),
    upward: true,
    words: (cell) => within(valueAt(cell), range.limit),
    wordWidth: widthOf(within(-range.limit, range.limit)) + 4,
    width: [8, 56],
    height: writers.length > 40 ? 8 : 20,
  };
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption="Composition of every head (rows) with every head of a later layer (columns), less chance"
      range={{ ...range, scale, each: null, onScale }}
      notes={[`less chance, which is ${plain(payload.chance)} ± ${plain(payload.chance_sd)}`, "heads that write upwards, those that read across"]}
      drawing={() => heatDrawing(heat)}
      table={() => [["writer", "reader", "value"], ...writers.flatMap((writer, row) => readers.map((reader, column) => [name(writer), name(reader), valueAt({ row, column })])).filter(([, , value]) => !Number.isNaN(value))]}
    >
      <HeatMap
        {...heat}
        label={`${payload.name}, ${writers.length} heads by ${readers.length}`}
        picked={picked ? [picked] : []}
        number={(cell) => signed(valueAt(cell))}
        tip={(cell) => ({ piece: `${name(writers[cell.row])} → ${name(readers[cell.column])}`, value: signed(valueAt(cell)), facts: [`chance ${plain(payload.chance)}`] })}
        onPick={(cell) => pick(picked && isSame(picked, cell) ? null : cell)}
      />
    </Stand>
  );
}

export default present(Composition, (_, { values: { shape } }) => {
  const [n_layers, n_heads] = shape;
  const size = (n_layers - 1) * n_heads;
  const headOf = (i: number): Head => ({ layer: Math.floor(i / n_heads), head: i % n_heads });
  return { picked: oneCellOf(size, size), onward: ({ row, column }) => ({ heads: [headOf(row), headOf(column + n_heads)] }) };
});
