// A matrix, split: for each of its singular vectors the tokens that it reads, and those that it writes.

import { useMemo } from "preact/hooks";
import { plain, signed } from "../numbers.ts";
import { drawBeside } from "./files.ts";
import { Word } from "./legend.tsx";
import { below } from "./look.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { NamedTable, type Rows, tableDrawing } from "./token_table.tsx";
import "./singular_vectors.css";

interface Payload extends Named {
  sides: string[];
  texts: string[][][]; // [side component top]
}

interface Chosen {
  component: number;
}

function SingularVectors({ payload, arrays, alone, tools, chosen, choose }: Shown<Payload, Chosen, never>) {
  const { sides, texts } = payload;
  const { component = 0 } = chosen;
  const [, n, top] = arrays.values.shape;
  const sizes = arrays.singular_values.data;
  const tables = useMemo(
    () =>
      sides.map((side, i): Rows => {
        const at = (i * n + component) * top;
        const values = arrays.values.data.subarray(at, at + top);
        return { noun: "token", texts: texts[i][component], ids: arrays.token_ids.data.subarray(at, at + top), columns: [{ name: side === "out" ? "logit" : "along", values, show: signed, bar: values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1 }] };
      }),
    [arrays, component],
  );
  const options = Array.from(sizes, (size, i) => [String(i), `singular vector ${i} (singular value ${plain(size)})`] as const);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={options[component][1]}
      sentence={
        <>
          Show the tokens of <Word label="Component" value={String(component)} options={options} onChange={(component) => choose({ component: Number(component) })} />
        </>
      }
      drawing={() => drawBeside(sides.map((title, i) => ({ title, ...tableDrawing({ rows: tables[i], order: Uint32Array.from(texts[i][component].keys()) }) })))}
      table={() => [["side", "component", "singular_value", "token", "value"], ...sides.flatMap((side, i) => Array.from(sizes).flatMap((size, k) => texts[i][k].map((text, t) => [side, k, size, text, arrays.values.data[(i * n + k) * top + t]])))]}
    >
      <div class="sides">
        {sides.map((side, i) => (
          <NamedTable key={side} rows={tables[i]} label={side} />
        ))}
      </div>
    </Stand>
  );
}

export default present(SingularVectors, (_, { values: { shape } }) => ({ chosen: { component: below(shape[1]) } }));
