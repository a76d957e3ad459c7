// A prompt without an intervention and with it: predictions, outputs, and the features that change most.

import { percent, plain, signed } from "../numbers.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import { type Rows, tableDrawing, useOrder } from "./token_table.tsx";
import "./intervention.css";

interface Payload extends Named {
  texts: string[];
  feature_names: string[];
  outputs: { name: string; before: number; after: number }[];
  kl_nats: number;
}

const MOST = 12; // shown of each kind

/** A value before and after, as two bars of one scale. */
function Pair({ name, before, after, most, show }: { name: string; before: number; after: number; most: number; show: (value: number) => string }) {
  const bar = (value: number) => ({ width: `${(100 * Math.abs(value)) / most}%` });
  return (
    <li>
      <span>{name}</span>
      <span class="pair" aria-hidden="true">
        <i class="before" style={bar(before)} />
        <i class={after < before ? "lower" : "higher"} style={bar(after)} />
      </span>
      <span>
        {show(before)} → {show(after)}
      </span>
    </li>
  );
}

/** What people call features: of a page that knows it. */
interface Chosen {
  names: Readonly<Record<string, string>>;
}

function Intervention({ payload, arrays, alone, tools, chosen: { names = {} } }: Shown<Payload, Chosen, never>) {
  const { texts, feature_names, outputs, kl_nats } = payload;
  const [values, features] = [arrays.values.data, arrays.features.data];
  const largest = (data: Float32Array): number => data.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const column = (time: number): Float32Array => Float32Array.from(texts, (_, i) => values[2 * i + time]);
  const rows: Rows = { noun: "token", texts, ids: arrays.token_ids.data, columns: ["before", "after"].map((name, time) => ({ name, values: column(time), show: percent, bar: 1 })) };
  const ordered = useOrder(rows);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption="Probability of the next token, before and after"
      notes={["grey: before; blue: higher after, red: lower", `KL ${plain(kl_nats)} nats`]}
      reading={["features are read anew from the changed stream: one that is scaled is read near what was set, not as it"]}
      drawing={() => tableDrawing(ordered)}
      table={() => [
        ["what", "name", "before", "after"],
        ...texts.map((text, i) => ["next token", text, values[2 * i], values[2 * i + 1]]),
        ...feature_names.map((name, i) => ["feature", name, features[2 * i], features[2 * i + 1]]),
        ...outputs.map(({ name, before, after }) => ["output", name, before, after]),
      ]}
    >
      <div class="intervention">
        {outputs.map(({ name, before, after }) => (
          <p key={name}>
            {name.replace(/^rs\./, "").replace(/, pos=-1(?=\)$)/, "")} <b>{`${signed(before)} → ${signed(after)}`}</b>
          </p>
        ))}
        <h2>next token</h2>
        <ol>
          {texts.slice(0, MOST).map((text, i) => (
            <Pair key={text} name={visiblePiece(text)} before={values[2 * i]} after={values[2 * i + 1]} most={largest(values)} show={percent} />
          ))}
        </ol>
        <h2>features that change most</h2>
        {feature_names.length === 0 && <p>None changes.</p>}
        <ol>
          {feature_names.slice(0, MOST).map((name, i) => (
            <Pair key={name} name={names[name] ? `${name} ${names[name]}` : name} before={features[2 * i]} after={features[2 * i + 1]} most={largest(features)} show={plain} />
          ))}
        </ol>
        {Math.max(texts.length, feature_names.length) > MOST && <p>CSV has more of both.</p>}
      </div>
    </Stand>
  );
}

export default present<Payload, Chosen, never>(Intervention, () => ({ chosen: { names: (value) => typeof value === "object" && value !== null && Object.values(value).every((name) => typeof name === "string") } }));
