// The place Graph: which feature of a prompt caused which later one, measured.

import { Word } from "../../views/legend.tsx";
import evaluation from "../../views/evaluation.tsx";
import graph, { findNodes, jsonOf, listFeatures, readKept, readMarks, showNode, strongestOf } from "../../views/graph.tsx";
import intervention from "../../views/intervention.tsx";
import { readFile } from "../../views/graph/check.ts";
import type { Marks } from "../../views/graph/net.ts";
import type { Command } from "../keys.ts";
import { wordsOf } from "../server.ts";
import { model } from "../session.ts";
import { Bench, type Fields } from "./bench.ts";
import { findOwn, readAsked } from "./opened.ts";
import { readNumber, readPositions } from "./typed.ts";
import { BenchPage, type Example, Prompt, Typed } from "./page.tsx";

const RULES = [
  ["top", "the largest edges of each source, at most"],
  ["threshold", "edges of at least"],
  ["share", "the largest edges, with a share of"],
] as const;
const BY_INFLUENCE = ["influence", "edges with a share of the influence on the answer of"] as const; // where edges multiply along paths
const DONE: Fields = { ablate: "ablated", scale: "times", add: "with more:" };
const WAYS = [
  ["both", "causes and effects"],
  ["causes", "causes"],
  ["effects", "effects"],
] as const;
const MOST_CARDS = 200; // in a saved page
const AMOUNTS: Fields = { top: "10", threshold: "0.1", share: "0.5", influence: "0.5" };

/** A prompt that two names make, each of which is one token. */
function askWhom([correct, wrong]: readonly string[]): Fields {
  const [other, one] = [correct, wrong].map((name) => name.trim());
  return { text: `When ${one} and ${other} went to the shops, ${one} gave the bag to`, correct, wrong };
}

/** Layer, feature and position of "3.564@14"; of an error the feature is -1. In "attn_out.3.564@14" a site stands for the layer. */
function readNode(text: string): (number | string)[] {
  const [, place, feature, pos] = /^\s*(\d+|[a-z_]+\.\d+)\.(\d+|error)@(-?\d+)\s*$/.exec(text) ?? [];
  return [/\D/.test(place) ? place : Number(place), ...[feature === "error" ? "-1" : feature, pos].map(Number)];
}

export const bench = new Bench({
  views: { graph },
  fields: { ...askWhom([" Mary", " John"]), node: "", ways: "both", act: "", by: "0", tried: "", method: "exact", split: "", positions: "last", at: "-1", rule: "top", amount: "10", paths: "any", sites: "", extra: "" },
  suit: ({ names }) => (names.length === 2 ? askWhom(names) : { correct: "", wrong: "" }),
  words: { ways: WAYS.map(([way]) => way), act: ["", ...Object.keys(DONE)], tried: ["", "zero", "mean"], method: ["exact", "attribution"], split: ["", "1"], positions: ["last", "all", "at"], rule: Object.keys(AMOUNTS), paths: ["any", "long"], extra: ["", "errors", "tokens", "errors tokens"] },
  ask({ text, node, ways, correct, wrong, method, split, positions, at, rule, amount, paths, sites, extra }) {
    const output = correct === "" ? {} : { correct, wrong: wrong === "" ? null : wrong };
    const where = positions === "at" ? readPositions(at) : positions;
    const body = { text, positions: where, sites: sites === "" ? null : sites.split(",").map((site) => site.trim()), errors: extra.includes("errors"), tokens: extra.includes("tokens"), ...output };
    return node === "" ? { path: "graph", body: { ...body, method, split: method === "exact" && split !== "", paths, [rule]: readNumber(amount, AMOUNTS[rule]) } } : { path: "grow", body: { ...body, node: readNode(node), ways, top: readNumber(amount, "5") } };
  },
  prompt: ({ text }) => ({ text, called: "in the prompt" }),
  closer({ text, node, act, by, tried }, { asked, data }, look) {
    const { body } = asked!;
    const trial = tried !== "" && node === "" ? [{ title: "Is the graph right?", path: "evaluate", body: { ...body, ...readKept(data, look), with_: tried }, view: evaluation }] : [];
    const { pinned = [], groups = {}, names = {} } = readMarks(data, look);
    const group = (look.picked as { item: string } | null | undefined)?.item.match(/^group:(.*)$/s)?.[1];
    const nodes = group === undefined ? pinned : (groups[group] ?? []);
    if (act === "" || !nodes.length) return trial;
    const title = `${nodes.length === 1 ? [names[nodes[0]], nodes[0]].filter(Boolean).join(" ") : group === undefined ? `What is pinned, ${nodes.length} nodes` : `Group ${group}`} ${DONE[act]}${act === "ablate" ? "" : ` ${by}`}`;
    const card = (how: Record<string, unknown>) => ({ title, path: "intervene", body: { text, sites: body.sites, nodes, ...how, correct: body.correct, wrong: body.wrong }, view: intervention, chosen: { names } });
    try {
      return [...trial, card(act === "ablate" ? { scale: 0 } : { [act]: readNumber(by, "2") })];
    } catch (error) {
      return [...trial, { ...card({ [act]: by }), problem: wordsOf(error) }];
    }
  },
  readFile,
  findOwn,
  readAsked,
  writeFile: jsonOf,
  onward: ({ name }) => [["Grow a graph from it", () => bench.change({ node: name, rule: "top", amount: "5", ways: "both" })]],
  kept: (data, look) => ({ marks: readMarks(data, look) }),
  cards: (data, look) => listFeatures(data, look, MOST_CARDS).map(({ site, feature }) => ({ of: `${site} ${feature}`, path: "feature", body: { site, feature } })),
});

/** The feature that is picked, or the strongest source. */
function firstNode(): string {
  const answer = bench.answer.value;
  if (!answer) return "0.0@0";
  const [feature] = bench.viewOf(answer).onward(answer.data, bench.look.value.picked ?? null).features ?? [];
  return feature?.name ?? strongestOf(answer.data);
}

const EXAMPLES: readonly Example[] = [
  { name: "Which feature caused which?", fields: {} },
  { name: "From every token", fields: { positions: "all", amount: "3", extra: "tokens" } },
  { name: "A pronoun", fields: { text: "Lily had a red ball. She", correct: " was", wrong: "" } },
];

/** Nodes for the search of the whole page. */
export function entries(words: string): Command[] {
  const answer = bench.answer.peek();
  if (!answer || !words.trim()) return [];
  return findNodes(answer.data, bench.look.peek(), words.trim())
    .slice(0, 8)
    .map((item) => ({ id: item, label: `Node ${item}`, run: () => bench.lookAt(showNode(answer.data, bench.look.peek(), item)) }));
}

export function Graph() {
  const { act, method, split, tried, node, ways, positions, rule, paths, extra, sites } = bench.fields.value;
  const { pinned = [], groups = {} } = (bench.look.value.chosen ?? {}) as Marks;
  const apart = bench.answer.value?.apart;
  const there = Object.keys(model.value?.dictionaries ?? {});
  return (
    <BenchPage
      bench={bench}
      examples={EXAMPLES}
      prompts={<Prompt bench={bench} field="text" label="Prompt" />}
      sentence={
        <>
          <span>
            <Word
              label="What is traced"
              value={node === "" ? method : "node"}
              options={[
                ["exact", "Ablate alone every feature"],
                ["attribution", "Estimate by gradients every feature"],
                ["node", "Grow the graph"],
              ]}
              onChange={(what) => bench.change(what === "node" ? { node: firstNode(), rule: "top", amount: "5", tried: "" } : { node: "", method: what, ...(node === "" && rule !== "influence" ? {} : { rule: "top", amount: AMOUNTS.top }) })}
            />{" "}
            {node !== "" && (
              <>
                from <Typed bench={bench} field="node" label="Node" title="Layer, feature and position: 3.564@14" /> to its <Word label="Ways" value={ways} options={WAYS} onChange={(ways) => bench.change({ ways })} />,{" "}
              </>
            )}
            active at{" "}
            <Word
              label="Positions"
              value={positions}
              options={[
                ["last", "the last position"],
                ["all", "every position"],
                ["at", "positions"],
              ]}
              onChange={(positions) => bench.change({ positions })}
            />{" "}
            {positions === "at" && <Typed bench={bench} field="at" label="Which positions" title="Numbers, as 3, -1: from 0, or from the end" />}
          </span>
          <span>
            of{" "}
            <Word
              label="Dictionaries"
              value={sites}
              options={[["", `all ${there.length} dictionaries`], ...(sites && !there.includes(sites) ? [[sites, sites] as const] : []), ...there.slice(0, -1).map((site, i) => [`${site},${there[i + 1]}`, `${site} and ${there[i + 1]}`] as const)]}
              onChange={(sites) => bench.change({ sites })}
            />
          </span>
          <span>
            {node === "" ? (
              <>
                and keep <Word label="Edges" value={rule} options={method === "attribution" ? [...RULES, BY_INFLUENCE] : RULES} onChange={(rule) => bench.change({ rule, amount: AMOUNTS[rule] })} /> <Typed bench={bench} field="amount" label="How much" />
                {paths === "long" && (
                  <>
                    , of those{" "}
                    <Word
                      label="Traced paths"
                      value={paths}
                      options={[
                        ["any", "on any path"],
                        ["long", "on paths longer than one"],
                      ]}
                      onChange={(paths) => bench.change({ paths })}
                    />
                  </>
                )}
              </>
            ) : (
              <>
                and keep at most <Typed bench={bench} field="amount" label="How much" /> of each node
              </>
            )}
          </span>
          <span>
            with{" "}
            <Word
              label="Beside features"
              value={extra}
              options={[
                ["", "features alone"],
                ["errors", "errors of dictionaries too"],
                ["tokens", "tokens too"],
                ["errors tokens", "errors and tokens too"],
              ]}
              onChange={(extra) => bench.change({ extra })}
            />
          </span>
          <span>
            and the effect of each on the logit of <Typed bench={bench} field="correct" label="Right answer" /> less that of <Typed bench={bench} field="wrong" label="Wrong answer" />
          </span>
          {node === "" && method === "exact" && (
            <span>
              and show edges{" "}
              <Word
                label="Parts of edges"
                value={split}
                options={[
                  ["", "whole"],
                  ["1", "split: straight, by each head, by the MLP"],
                ]}
                onChange={(split) => bench.change({ split })}
              />
            </span>
          )}
          {node === "" && !apart && (
            <span>
              and{" "}
              <Word
                label="Whether it is right"
                value={tried}
                options={[
                  ["", "do not try whether it is right"],
                  ["zero", "try whether it is right, all else ablated to zero"],
                  ["mean", "try whether it is right, all else ablated to its mean"],
                ]}
                onChange={(tried) => bench.change({ tried })}
              />
            </span>
          )}
          {!apart && (act !== "" || pinned.length > 0 || Object.keys(groups).length > 0) && (
            <span>
              and with what is pinned{" "}
              <Word
                label="Intervention"
                value={act}
                options={[
                  ["", "left as it is"],
                  ["ablate", "ablated"],
                  ["scale", "scaled by"],
                  ["add", "made more active, by"],
                ]}
                onChange={(act) => bench.change({ act, by: act === "add" ? "5" : "2" })}
              />{" "}
              {(act === "scale" || act === "add") && <Typed bench={bench} field="by" label="By how much" />}
            </span>
          )}
        </>
      }
    >
      {Object.values(model.value?.misfits ?? {}).map((misfit) => (
        <p key={misfit} class="warning" role="note">
          {misfit}
        </p>
      ))}
    </BenchPage>
  );
}
