// A feature of a dictionary: where it is active, each token shaded by its activation; tokens that it promotes and suppresses; what lies near.

import { count, counted, percent, plain, signed } from "../numbers.ts";
import { shadeText, stepOf } from "../shades.ts";
import { Spread } from "./explanation.tsx";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import { type Rows, tableDrawing, useOrder } from "./token_table.tsx";
import "./feature.css";

interface Context {
  text: number;
  pos: number;
  value: number;
  pieces: string[];
  at: number;
  activations: number[];
}

interface Payload extends Named {
  texts: string[][]; // [side top]
  contexts: Context[];
  n_active: number;
  near: { name: string; cosine: number }[];
  dictionary: { name: string; site: string; source: string | null; feature: number };
  page: string | null;
  settings: Named["settings"] & { unit: string; n_tokens: number; n_texts: number };
}

const SIDES = ["promoted", "suppressed"];

/** A text around the place where it is most active. */
function Passage({ context: { text, pos, value, pieces, at, activations }, most }: { context: Context; most: number }) {
  return (
    <li title={`text ${text}, position ${pos}`}>
      <b>{plain(value)}</b>
      <q>
        {pieces.map((piece, i) => {
          const shade = activations[i] > 0 ? { background: shadeText(stepOf(activations[i], most)) } : undefined;
          const Tag = i === at ? "mark" : "span";
          return (
            <Tag key={i} style={shade} title={`${visiblePiece(piece)} ${plain(activations[i])}`}>
              {piece}
            </Tag>
          );
        })}
      </q>
    </li>
  );
}

function Feature({ payload, arrays, alone, tools }: Shown<Payload, object, never>) {
  const { texts, contexts, n_active, near, page, settings } = payload;
  const top = arrays.values.shape[1];
  const valueAt = (side: number, t: number): number => arrays.values.data[side * top + t];
  const largest = arrays.values.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const rows: Rows = { noun: "token", texts: texts.flat(), ids: arrays.token_ids.data, columns: [{ name: "logit", values: arrays.values.data, show: signed, bar: largest }] };
  const ordered = useOrder(rows);
  const most = contexts[0]?.value ?? 1;
  const often = `active at ${count(n_active)} of ${counted(settings.n_tokens, "token")} (${percent(n_active / settings.n_tokens)}) of ${counted(settings.n_texts, "text")}`;
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={`Tokens that it promotes, ${settings.unit}`}
      notes={[often, "position 0 left out", settings.unit]}
      drawing={() => tableDrawing(ordered)}
      table={() => [["side", "token", "value"], ...SIDES.flatMap((side, i) => texts[i].map((text, t) => [side, text, valueAt(i, t)]))]}
    >
      <div class="explained feature">
        <section>
          <h2>where it is most active{n_active > 0 && <small> shaded up to {plain(most)}</small>}</h2>
          {contexts.length ? (
            <ol class="contexts">
              {contexts.map((context) => (
                <Passage key={`${context.text} ${context.pos}`} context={context} most={most} />
              ))}
            </ol>
          ) : (
            <p>In none of the texts.</p>
          )}
        </section>
        {top > 0 &&
          SIDES.map((side, i) => (
            <section key={side}>
              <h2>{side}</h2>
              <ol class="tokens-of">
                {texts[i].map((text, t) => (
                  <li key={t}>
                    <span>{visiblePiece(text)}</span>
                    <i class={side} style={{ width: `${(100 * Math.abs(valueAt(i, t))) / largest}%` }} />
                    <span>{signed(valueAt(i, t))}</span>
                  </li>
                ))}
              </ol>
            </section>
          ))}
        {n_active > 0 && (
          <section>
            <h2>how its activations spread</h2>
            <Spread counts={arrays.counts.data} edges={arrays.edges.data} />
          </section>
        )}
        {(near.length > 0 || page) && (
          <section>
            <h2>what lies near it</h2>
            <dl>
              {near.map(({ name, cosine }) => (
                <>
                  <dt>{name}</dt>
                  <dd>cosine {signed(cosine)}</dd>
                </>
              ))}
            </dl>
            {page && (
              <p>
                <a href={page} target="_blank" rel="noopener noreferrer">
                  Its page at Neuronpedia
                </a>
              </p>
            )}
          </section>
        )}
      </div>
    </Stand>
  );
}

export default present(Feature, () => ({}));
