// Whether a graph is right: what its edges predict of sources ablated together, and what the model does with its nodes alone.

import { counted, percent, plain, within } from "../numbers.ts";
import { type Heat, heatDrawing, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { widthOf } from "./pen.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";
import "./evaluation.css";

interface Payload extends Named {
  curves: string[];
  cpr: number;
  cmd: number;
  ceiling: number;
  faithfulness: number;
  completeness: number;
  share: number;
  warning: string | null;
  edges: Record<"covered" | "sign_agreement" | "correlation" | "explained", number | null>;
  settings: Named["settings"] & { metric: string; with: string; n_nodes: number; meaning: Record<string, string> };
}

const ROOM = 720; // px of a file
const NOTHING = "none";

const mean = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;

/** Every number, with what it is. */
function factsOf({ share, faithfulness, completeness, ceiling, cpr, cmd, edges, settings }: Payload, random: readonly [cpr: ArrayLike<number>, cmd: ArrayLike<number>]): [what: string, value: string, said: string][] {
  const said = (value: number | null): string => (value === null ? NOTHING : percent(value));
  return [
    ["nodes of the graph", percent(share), `of the ${counted(settings.n_nodes, "node")} that are active, errors among them`],
    ["they alone", plain(faithfulness), "faithfulness: 1 is as the whole model, 0 as nothing of it"],
    ["all but them", plain(completeness), "completeness: 0 where nothing was missed"],
    ["all features", plain(ceiling), `the ceiling, without errors of dictionaries${ceiling > 1 ? ", which work against the metric" : ""}`],
    ["CPR", plain(cpr), `area under faithfulness; random nodes ${plain(mean(random[0]))}`],
    ["CMD", plain(cmd), `area of its distance from 1; random nodes ${plain(mean(random[1]))}`],
    ["edges lead to", said(edges.covered), "of what changed when sources were ablated together"],
    ["signs right", said(edges.sign_agreement), "of these"],
    ["correlation", edges.correlation === null ? NOTHING : plain(edges.correlation), "of predicted and measured effects"],
    ["explained", said(edges.explained), "of joint effects, by the sum of edges"],
  ];
}

function Evaluation({ payload, arrays, alone, tools, scale, onScale }: Shown<Payload, object, never>) {
  const { curves, settings, warning } = payload;
  const [values, shares] = [arrays.values.data, arrays.shares.data];
  const range = rangeOf(values, scale, "of the whole model");
  const { limit } = range;
  const heat: Heat = {
    rows: curves.map((text) => ({ text })),
    columns: Array.from(shares, (share) => ({ text: percent(share) })),
    steps: stepsOf(Float32Array.from(values), limit),
    upward: false,
    words: ({ row, column }) => within(values[row * shares.length + column], limit),
    wordWidth: widthOf(within(-limit, limit)) + 4,
    width: [14, 52],
    height: 22,
  };
  const facts = factsOf(payload, [arrays.random_cpr.data, arrays.random_cmd.data]);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={`Faithfulness of circuits, by ${settings.metric.replace(/^rs\./, "")}`}
      range={{ ...range, signed: true, scale, each: null, onScale }}
      notes={[`what is not in a circuit is ablated to ${settings.with === "zero" ? "zero" : settings.with === "mean" ? "its mean" : "another prompt's"}`, ...(warning ? [warning] : [])]}
      drawing={() => heatDrawing(heat, ROOM)}
      table={() => [["curve", "share of nodes", "f"], ...curves.flatMap((curve, row) => Array.from(shares, (share, i) => [curve, share, values[row * shares.length + i]]))]}
    >
      <dl class="evaluation">
        {facts.map(([what, value, said]) => (
          <div key={what}>
            <dt>{what}</dt>
            <dd>
              <b>{value}</b> {said}
            </dd>
          </div>
        ))}
      </dl>
      <HeatMap
        {...heat}
        label="Faithfulness by the share of nodes that a circuit has"
        number={({ row, column }) => plain(values[row * shares.length + column])}
        tip={({ row, column }) => ({ piece: curves[row], value: plain(values[row * shares.length + column]), facts: [`${percent(shares[column])} of all nodes`, settings.meaning[curves[row]]] })}
      />
    </Stand>
  );
}

export default present(Evaluation, () => ({}));
