// A vector over the vocabulary: a table of tokens with bars.

import { useMemo } from "preact/hooks";
import type { Tensor } from "../arrays.ts";
import { count, percent, signed } from "../numbers.ts";
import { Word } from "./legend.tsx";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { type Column, tableDrawing, tableRows, TokenTable, useOrder } from "./token_table.tsx";

interface Payload extends Named {
  texts: string[][];
  settings: Named["settings"] & { minus?: string };
}

interface Chosen {
  text: number;
}

const most = (values: Float32Array): number => values.reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0) || 1;

/** The columns of one text. */
function columnsOf(arrays: Record<string, Tensor>, text: number): Column[] {
  const row = ({ shape, data }: Tensor): Float32Array => data.subarray(text * shape[1], (text + 1) * shape[1]);
  const logits = row(arrays.logits);
  const probs = row(arrays.log_probs).map(Math.exp);
  return [
    { name: "rank", values: row(arrays.ranks), show: count, rising: true },
    { name: "prob", values: probs, show: percent, bar: most(probs) },
    { name: "logit", values: logits, show: signed, bar: most(logits) },
    { name: "log prob", values: row(arrays.log_probs), show: signed },
    ...(arrays.changes ? [{ name: "change", values: row(arrays.changes), show: signed, bar: most(row(arrays.changes)) }] : []),
  ];
}

function Vocabulary({ payload, arrays, alone, chosen, choose }: Shown<Payload, Chosen, never>) {
  const { texts } = payload;
  const { text = 0 } = chosen;
  const { data, shape } = arrays.token_ids;
  const rows = useMemo(() => ({ noun: "token", texts: texts[text], ids: data.subarray(text * shape[1], (text + 1) * shape[1]), columns: columnsOf(arrays, text) }), [arrays, text]);
  const ordered = useOrder(rows);
  const { minus } = payload.settings;
  return (
    <Stand
      shown={{ payload, alone }}
      caption={`${count(ordered.order.length)} tokens${texts.length > 1 ? ` of text ${text}` : ""}`}
      sentence={
        texts.length > 1 && (
          <>
            Show the tokens of <Word label="Text" value={String(text)} options={texts.map((_, i) => [String(i), `text ${i}`])} onChange={(text) => choose({ text: Number(text) })} />
          </>
        )
      }
      notes={["ranks from 0, log prob in nats, prob over the whole vocabulary", minus ? `change: the logit less that of ${minus}` : null]}
      drawing={() => tableDrawing(ordered)}
      table={() => tableRows(ordered)}
    >
      <TokenTable {...ordered} label={payload.name} />
    </Stand>
  );
}

export default present(Vocabulary);
