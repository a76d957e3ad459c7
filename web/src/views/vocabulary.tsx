// A vector over the vocabulary: a table of tokens with bars, or where its probability goes.

import { useMemo } from "preact/hooks";
import type { Tensor } from "../arrays.ts";
import { count, percent, signed } from "../numbers.ts";
import { Icicle, icicleDrawing, massOf } from "./icicle.tsx";
import { Word } from "./legend.tsx";
import { below, oneOf } from "./look.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { type Column, tableDrawing, tableRows, TokenTable, useOrder } from "./token_table.tsx";

interface Payload extends Named {
  texts: string[][];
  settings: Named["settings"] & { minus?: string };
}

interface Chosen {
  text: number;
  as: "table" | "mass";
}

const PROB = 1; // which column it is
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

function Vocabulary({ payload, arrays, alone, tools, chosen, choose }: Shown<Payload, Chosen, never>) {
  const { texts } = payload;
  const { text = 0, as = "table" } = chosen;
  const { data, shape } = arrays.token_ids;
  const rows = useMemo(() => ({ noun: "token", texts: texts[text], ids: data.subarray(text * shape[1], (text + 1) * shape[1]), columns: columnsOf(arrays, text) }), [arrays, text]);
  const ordered = useOrder(rows);
  const root = useMemo(() => massOf(rows.texts, rows.columns[PROB].values), [rows]);
  const { minus } = payload.settings;
  const mass = as === "mass";
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={`${mass ? "Where the probability goes" : `${count(ordered.order.length)} tokens`}${texts.length > 1 ? ` of text ${text}` : ""}`}
      sentence={
        <>
          Show{" "}
          <Word
            label="As"
            value={as}
            options={[
              ["table", "the tokens"],
              ["mass", "where the probability goes"],
            ]}
            onChange={(as) => choose({ as })}
          />
          {texts.length > 1 && (
            <>
              {" "}
              of <Word label="Text" value={String(text)} options={texts.map((_, i) => [String(i), `text ${i}`])} onChange={(text) => choose({ text: Number(text) })} />
            </>
          )}
        </>
      }
      notes={[mass ? "by what a token begins with, its kind, its first letter; the 60 most probable on their own" : "ranks from 0, log prob in nats, prob over the whole vocabulary", minus ? `change: the logit less that of ${minus}` : null]}
      drawing={() => (mass ? icicleDrawing(root) : tableDrawing(ordered))}
      table={() => tableRows(ordered)}
    >
      {mass ? <Icicle root={root} label={`Where the probability of ${payload.name} goes`} /> : <TokenTable {...ordered} label={payload.name} />}
    </Stand>
  );
}

export default present(Vocabulary, ({ texts }) => ({ chosen: { text: below(texts.length), as: oneOf("table", "mass") } }));
