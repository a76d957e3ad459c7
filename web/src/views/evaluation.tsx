// Whether a graph is right: what its edges predict of sources ablated together, and what the model does with its nodes alone.

import { counted, percent, plain } from "../numbers.ts";
import { Curves, curvesDrawing, type CurvesProps } from "./curves.tsx";
import { type Named, present, type Shown, Stand } from "./present.tsx";
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

const INKS = { faithfulness: "positive", completeness: "negative", "faithfulness by size": "accent", random: "ink2" } as const;

/** What is drawn: each curve with the area that is told of it, and where the graph itself is. */
function curvesOf({ curves, cpr, cmd, share, faithfulness, completeness }: Payload, { values, shares, random_cpr, random_cmd }: Shown<Payload, object, never>["arrays"]): CurvesProps {
  const areas: Record<string, string> = {
    faithfulness: `: its area, CPR ${plain(cpr)}`,
    completeness: ": all but these nodes",
    "faithfulness by size": `: off 1 by CMD ${plain(cmd)}`,
    random: `: nodes like these, CPR ${plain(mean(random_cpr.data))}, CMD ${plain(mean(random_cmd.data))}`,
  };
  return {
    shares: shares.data,
    of: "nodes",
    lines: curves.map((name, row) => ({ said: `${name}${areas[name]}`, values: values.data.subarray(row * shares.data.length, (row + 1) * shares.data.length), ink: INKS[name as keyof typeof INKS], dotted: row < 2 })),
    mark: { share, said: `the graph, ${percent(share)}`, values: [faithfulness, completeness] },
    label: `Curves over the share of nodes that a circuit has: ${curves.join(", ")}`,
  };
}

function Evaluation({ payload, arrays, alone, tools }: Shown<Payload, object, never>) {
  const { curves, settings, warning } = payload;
  const [values, shares] = [arrays.values.data, arrays.shares.data];
  const facts = factsOf(payload, [arrays.random_cpr.data, arrays.random_cmd.data]);
  const drawn = curvesOf(payload, arrays);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={`Faithfulness of circuits, by ${settings.metric.replace(/^rs\./, "")}`}
      notes={[`what is not in a circuit is ablated to ${settings.with === "zero" ? "zero" : settings.with === "mean" ? "its mean" : "another prompt's"}`, ...(warning ? [warning] : [])]}
      reading={curves.map((curve) => `${curve}: ${settings.meaning[curve]}`)}
      drawing={() => curvesDrawing(drawn)}
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
      <Curves {...drawn} />
    </Stand>
  );
}

export default present(Evaluation, () => ({}));
