// What taking a part away does to a metric, text by text: itself, and what later parts make up for.

import { useMemo } from "preact/hooks";
import { counted, signed } from "../numbers.ts";
import { bootstrapInterval } from "./bootstrap.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { type Rows, tableDrawing, tableRows, TokenTable, useOrder } from "./token_table.tsx";

interface Payload extends Named {
  effects: string[];
  texts: string[];
  settings: Named["settings"] & { metric?: string };
}

const LONG = 60; // characters of a metric

function Ablation({ payload, arrays, alone, tools }: Shown<Payload, object, never>) {
  const { effects, texts, settings } = payload;
  const n = arrays.base_values.data.length;
  const rows = useMemo((): Rows => {
    const most = arrays.values.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
    const columns = effects.map((name, i) => ({ name: name.replaceAll("_", " "), values: arrays.values.data.subarray(i * n, (i + 1) * n), show: signed, bar: most }));
    return { noun: "text", texts: texts.map((text, i) => `${i} ${text}`), columns: [{ name: "before", values: arrays.base_values.data, show: signed }, ...columns] };
  }, [arrays]);
  const ordered = useOrder(rows);
  const ones = new Float32Array(n).fill(1);
  const means = rows.columns.slice(1).map(({ name, values }) => {
    const mean = Array.from(values).reduce((sum, value) => sum + value, 0) / n;
    return `${name} ${signed(mean)}${n > 1 ? ` (${bootstrapInterval(values, ones).map(signed).join(" to ")})` : ""}`;
  });
  const mean = `Mean of ${counted(n, "text")}: ${means.join(", ")}`;
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={mean}
      notes={[mean, settings.metric ? `metric: ${settings.metric.length > LONG ? `${settings.metric.slice(0, LONG)}…` : settings.metric}` : null, "total is direct and self-repair together; norm is the final norm's share of the self-repair"]}
      drawing={() => tableDrawing(ordered)}
      table={() => tableRows(ordered)}
    >
      <TokenTable {...ordered} label={payload.name} />
    </Stand>
  );
}

export default present(Ablation, () => ({}));
