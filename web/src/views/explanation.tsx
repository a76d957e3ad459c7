// What a direction is about: tokens that it promotes and suppresses, where it is strong, how its values spread, what goes with it.

import { useMemo } from "preact/hooks";
import { counted, percent, plain, signed } from "../numbers.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import { NamedTable, type Rows, tableDrawing, useOrder } from "./token_table.tsx";
import "./explanation.css";

interface Context {
  value: number;
  text: number;
  pos: number;
  pieces: string[];
  at: number;
  next: string[];
  loss_nats: number | null;
}

interface Head {
  layer: number;
  head: number;
  times: number;
}

interface Payload extends Named {
  texts: string[][]; // [side top]
  contexts: Record<"top" | "bottom", Context[]>;
  variance_share: number;
  deviation: number;
  writers: Head[];
  readers: Head[];
  near: { name: string; cosine: number }[];
  settings: Named["settings"] & { unit: string; n_tokens: number };
}

const SIDES = ["promoted", "suppressed"];

function Contexts({ found, label }: { found: Context[]; label: string }) {
  return (
    <section>
      <h2>{label}</h2>
      <ol class="contexts">
        {found.map(({ value, text, pos, pieces, at, next, loss_nats }) => (
          <li key={`${text} ${pos}`} title={`text ${text}, position ${pos}; the model expects ${next.map(visiblePiece).join(" ")} after it${loss_nats === null ? "" : `; its own loss ${plain(loss_nats)} nats`}`}>
            <b>{signed(value)}</b>
            <q>
              {pieces.slice(0, at).join("")}
              <mark>{pieces[at]}</mark>
              {pieces.slice(at + 1).join("")}
            </q>
          </li>
        ))}
      </ol>
    </section>
  );
}

const HEIGHT = 48; // px

/** How many tokens have which values. */
export function Spread({ counts, edges }: { counts: Float32Array; edges: Float32Array }) {
  const most = counts.reduce((most, n) => Math.max(most, n), 1);
  const [low, high] = [edges[0], edges[edges.length - 1]];
  return (
    <figure>
      <svg viewBox={`0 0 ${counts.length} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`Values from ${signed(low)} to ${signed(high)}, tokens in each of ${counts.length} bins: ${Array.from(counts).join(", ")}`}>
        {Array.from(counts, (n, i) => (
          <rect key={i} x={i + 0.06} width="0.88" y={HEIGHT - (n * HEIGHT) / most} height={HEIGHT} />
        ))}
      </svg>
      <figcaption>
        <span>{signed(low)}</span>
        <span>{signed(high)}</span>
      </figcaption>
    </figure>
  );
}

const headsOf = (heads: Head[]): string => heads.map(({ layer, head, times }) => `${layer}.${head} ×${plain(times)}`).join(", ") || "none";

function Explanation({ payload, arrays, alone, tools }: Shown<Payload, object, never>) {
  const { texts, contexts, variance_share, deviation, writers, readers, near, settings } = payload;
  const top = arrays.values.shape[1];
  const sides = useMemo(() => {
    const most = arrays.values.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
    return SIDES.map((_, side): Rows => {
      const values = arrays.values.data.subarray(side * top, (side + 1) * top);
      return { noun: "token", texts: texts[side], ids: arrays.token_ids.data.subarray(side * top, (side + 1) * top), columns: [{ name: settings.unit.startsWith("z") ? "z-score" : "logit", values, show: signed, bar: most }] };
    });
  }, [arrays]);
  const first = useOrder(sides[0]);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={top ? `Tokens that it promotes, ${settings.unit}` : settings.unit}
      notes={[`${percent(variance_share)} of variance, standard deviation ${plain(deviation)}, ${counted(settings.n_tokens, "token")}`, settings.unit]}
      drawing={() => tableDrawing(first)}
      table={() => [["side", "token", "value"], ...SIDES.flatMap((side, i) => texts[i].map((text, t) => [side, text, arrays.values.data[i * top + t]]))]}
    >
      <div class="explained">
        {top > 0 && sides.map((rows, i) => <NamedTable key={SIDES[i]} rows={rows} label={SIDES[i]} />)}
        <Contexts found={contexts.top} label="where it is strongest" />
        <Contexts found={contexts.bottom} label="where it is most negative" />
        <section>
          <h2>how its values spread</h2>
          <Spread counts={arrays.counts.data} edges={arrays.edges.data} />
        </section>
        <section>
          <h2>what goes with it</h2>
          <dl>
            <dt>written by heads</dt>
            <dd>{headsOf(writers)}</dd>
            <dt>read by heads</dt>
            <dd>{headsOf(readers)}</dd>
            {near.map(({ name, cosine }) => (
              <>
                <dt>{name}</dt>
                <dd>cosine {signed(cosine)}</dd>
              </>
            ))}
          </dl>
          <p>× how much more than a random direction</p>
        </section>
      </div>
    </Stand>
  );
}

export default present(Explanation, () => ({}));
