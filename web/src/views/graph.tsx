// A causal graph: features as cards in rows of layers, what each changes in the next as curves; what is pinned, named and grouped in it.

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Bytes } from "../arrays.ts";
import { count, counted, percent, plain, signed } from "../numbers.ts";
import type { Drawing } from "./files.ts";
import { type Drawn, drawGraph, type Face, GraphCanvas, type GraphElement } from "./graph/canvas.tsx";
import { Cards } from "./graph/cards.tsx";
import { filesOf, toJson } from "./graph/files.ts";
import { type Across, CARD, layOut, orderItems } from "./graph/layout.ts";
import { type Arrays, bringUp, ERROR, find, isShared, type Item, kindOf, makeScene, MARKS, type Marks, marksIn, type Net, type Paths, type Payload, prune, readNet, TOKEN, usualShare } from "./graph/net.ts";
import { Word } from "./legend.tsx";
import { below, type Check, isList, isRecordOf, isText, type Look, oneOf } from "./look.ts";
import { parseOnce, present, rangeOf, type Shown, Stand } from "./present.tsx";
import { type Scale, visiblePiece } from "./reading.ts";
import "./graph.css";

interface Chosen extends Omit<Marks, "look"> {
  across: Across;
  sign: "source" | "ablation";
  paths: Paths;
  output: number; // whose effects are marked; as many as there are outputs: none
}

type Looked = { chosen?: Partial<Chosen>; picked?: Picked | null; scale?: Scale }; // a look that fits

type Choose = (changed: Partial<Chosen>) => void;

/** An item of the picture, by its key. */
interface Picked {
  item: string;
}

const SIGNS = [
  ["source", "the source raises its target"],
  ["ablation", "ablating the source raises its target"],
] as const;
const BROAD = 560; // px across the layers, where these are columns
const MOST_LINES = 300; // of the table

const nets = new WeakMap<Arrays, Net>();

/** Reads a graph, each but once. */
function netOf(payload: Payload, arrays: Arrays): Net {
  const net = nets.get(arrays) ?? readNet(payload, arrays);
  nets.set(arrays, net);
  return net;
}

/** The marks of a graph: those of its file, and what was changed since, of the nodes that it has; and how it is looked at. */
function marksOf(net: Net, { chosen = {}, picked, scale }: Looked): Marks {
  const { look: _, ...own } = net.payload.marks;
  const { across, sign, paths, output } = chosen;
  const look = some({ across, sign, paths, output, picked: picked?.item, limit: scale?.mode === "fixed" ? scale.limit : undefined });
  return { ...marksIn(net, { ...own, ...some(Object.fromEntries(MARKS.map((name) => [name, chosen[name]]))) }), ...(Object.keys(look).length > 0 && { look }) };
}

/** What of a record is given. */
const some = <T extends object>(record: T): Partial<T> => Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Partial<T>;

/** How the marks of a graph say that it is looked at. */
function firstLook({ look = {}, ...own }: Marks): Look {
  const { picked, limit, ...stance } = look;
  const chosen = { ...own, ...stance };
  return some({ chosen: Object.keys(chosen).length ? chosen : undefined, picked: picked === undefined ? undefined : { item: picked }, scale: limit === undefined ? undefined : { mode: "fixed", limit } });
}

const nameOf = ({ key, kind, nodes }: Item, { names = {} }: Marks): string => (kind === "group" ? key.slice(6) : kind === "layer" ? `layer ${key.slice(6)}, ${nodes.length} nodes` : (names[key] ?? key));

const readGraph = (data: Bytes): Net => {
  const { payload, arrays } = parseOnce(data) as { payload: Payload; arrays: Arrays };
  return netOf(payload, arrays);
};

/** What a look puts on a graph, and how it shows it. */
export const readMarks = (data: Bytes, look: Look): Marks => marksOf(readGraph(data), look as Looked);

/** What of a graph a look shows, as `Graph.prune` is asked for it. */
export function readKept(data: Bytes, look: Look): { marks: Marks; shown: Paths } {
  const { look: _, ...marks } = readMarks(data, look);
  return { marks: { ...marks, keep: marks.keep ?? usualShare(readGraph(data)) }, shown: (look.chosen as Partial<Chosen> | undefined)?.paths ?? "any" };
}

/** Features that a look shows, so many at most: what is pinned, then the ends of the strongest edges. */
export function listFeatures(data: Bytes, look: Look, most: number): { site: string; feature: number }[] {
  const net = readGraph(data);
  const { marks, shown } = readKept(data, look);
  const edges = [...prune(net, marks.keep!, shown, marks.pinned)];
  const nodes = [...(marks.pinned ?? []).map((key) => net.numbers.get(key)!), ...edges.flatMap((edge) => [net.sources[edge], net.targets[edge]])];
  const found = new Map<string, { site: string; feature: number }>();
  for (const node of nodes) {
    if (net.levels[node] === TOKEN || net.features[node] === ERROR || found.size === most) continue;
    const [{ site }, feature] = [net.payload.dictionaries[net.levels[node]], net.features[node]];
    found.set(`${site} ${feature}`, { site, feature });
  }
  return [...found.values()];
}

/** The file of a graph's bytes, with the marks of a look. */
export const jsonOf = (data: Bytes, look: Look): string => toJson(readGraph(data), readMarks(data, look));

/** The look that shows a node, whatever it cuts. */
export function showNode(data: Bytes, look: Look, key: string): Look {
  const net = readGraph(data);
  const { pinned, item } = bringUp(net, readMarks(data, look), net.numbers.get(key)!);
  return { ...look, chosen: { ...(look.chosen as Partial<Chosen> | undefined), pinned }, picked: { item } };
}

/** Nodes whose name, or what a look calls them, has some words in it. */
export function findNodes(data: Bytes, look: Look, words: string): string[] {
  const { names = {} } = readMarks(data, look);
  return readGraph(data).keys.filter((key) => `${key} ${names[key] ?? ""}`.toLowerCase().includes(words.toLowerCase()));
}

/** The node that has the strongest edge to another. */
export function strongestOf(data: Bytes): string {
  const { keys, sources, order } = readGraph(data);
  return keys[sources[order[0]]] ?? "0.0@0";
}

/** The width of an element, as it changes. */
function useWidth(): [ref: { current: HTMLDivElement | null }, width: number] {
  const ref = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const resized = new ResizeObserver(([{ contentRect }]) => setWidth(Math.floor(contentRect.width)));
    setWidth(ref.current!.clientWidth);
    resized.observe(ref.current!);
    return () => resized.disconnect();
  }, []);
  return [ref, width];
}

/** What some nodes do to an output, summed. */
const effectOf = ({ effects: { data, shape } }: Net, nodes: readonly number[], output: number): number => nodes.reduce((sum, node) => sum + data[node * shape[1] + output], 0);

/** How large cards are: where layers have several dictionaries, with room for what these read. */
const cardOf = ({ dictionaries }: Payload): readonly [number, number] => (dictionaries.some((one) => isShared(dictionaries, one)) ? [104, CARD[1]] : CARD);

/** What the cards of a scene say. */
function facesOf(net: Net, items: readonly Item[], marks: Marks, output: number | null, across: Across): Face[] {
  const most = net.activations.reduce((most, value, node) => (net.levels[node] === TOKEN || net.features[node] < 0 ? most : Math.max(most, value)), 0) || 1;
  const effects = output === null ? [] : items.map(({ nodes }) => effectOf(net, nodes, output));
  const largest = effects.reduce((most, effect) => Math.max(most, Math.abs(effect)), 0) || 1;
  const several = net.payload.positions.length > 1;
  return items.map(({ key, kind, nodes, pos }, i) => {
    const dictionary = net.payload.dictionaries[net.levels[nodes[0]]]; // of a token none
    const shared = dictionary && isShared(net.payload.dictionaries, dictionary);
    const number = shared ? key.replace(dictionary.site, String(dictionary.layer)) : key;
    const bare = several && across === "columns" ? number : number.split("@")[0];
    const named = marks.names?.[key];
    const title = kind === "group" ? key.slice(6) : kind === "layer" ? `layer ${key.slice(6)}` : (named ?? (kind === "token" ? visiblePiece(net.payload.pieces[pos]) : bare));
    const value = nodes.length === 1 && kind !== "group" ? `${plain(net.activations[nodes[0]])}${named ? ` ${bare}` : shared ? ` ${kindOf(dictionary.site)}` : kind === "token" && several ? ` @${pos}` : ""}` : counted(nodes.length, "node");
    return { title, named: kind === "group" || named !== undefined, value, share: kind === "feature" ? Math.min(1, net.activations[nodes[0]] / most) : 0, effect: output === null ? null : effects[i] / largest };
  });
}

function Graph({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Picked>) {
  const net = netOf(payload, arrays);
  const marks = marksOf(net, { chosen, picked, scale });
  const { across = "rows", sign = "source", paths = "any", output = 0 } = chosen;
  const keep = marks.keep ?? usualShare(net);
  const shownOutput = output < payload.outputs.length ? output : null;
  const [place, width] = useWidth();
  const [words, setWords] = useState("");
  const [zoom, setZoom] = useState(1);
  const canvas = useRef<GraphElement | null>(null);
  const scene = useMemo(() => makeScene(net, prune(net, keep, paths, marks.pinned), marks), [net, keep, paths, JSON.stringify([marks.groups, marks.folded, marks.pinned])]);
  const layout = useMemo(() => {
    const place = orderItems(scene, scene.items.map(({ nodes }) => net.activations[nodes[0]]));
    return layOut(scene, place, across, across === "rows" ? width : BROAD, cardOf(payload));
  }, [scene, across, width]);
  const faces = useMemo(() => facesOf(net, scene.items, marks, shownOutput, across), [net, scene, JSON.stringify(marks.names), shownOutput, across]);
  const limit = useMemo(() => rangeOf(net.weights, scale, "").limit, [net, JSON.stringify(scale)]);
  const { items: found, cut } = useMemo(() => find(net, scene, marks, words), [net, scene, words]);
  const numberOf = (key: string): number | null => {
    const at = scene.items.findIndex((item) => item.key === key);
    return at < 0 ? null : at;
  };
  const at = picked && numberOf(picked.item);
  const several = layout.columns.length > 1 && across === "rows";
  const drawn: Drawn = {
    scene,
    layout,
    faces,
    limit,
    sign: sign === "source" ? 1 : -1,
    pinned: new Set((marks.pinned ?? []).map(numberOf).filter((item) => item !== null)),
    heads: several ? layout.columns.map(({ pos }) => `${pos} ${visiblePiece(payload.pieces[pos])}`) : [],
  };
  const keptWeight = scene.edges.reduce((sum, edge) => sum + Math.abs(net.weights[edge]), 0);
  const kept = `${counted(scene.edges.length, "edge")} of ${count(net.weights.length)} between ${count(scene.n_nodes)} of ${counted(net.levels.length, "node")}`;
  const whole = `${percent(net.payload.total ? keptWeight / net.payload.total : 1)} of the whole effect`;
  const largest = shownOutput === null ? 0 : scene.items.reduce((most, { nodes }) => Math.max(most, Math.abs(effectOf(net, nodes, shownOutput))), 0);
  const effects = shownOutput === null ? null : `left edge of a card: its effect, ±${plain(largest)} at most`;
  const { from_elsewhere: away } = payload.settings;
  const elsewhere = typeof away === "number" && away ? `of the stream's change attention brings ${percent(away)} from positions not shown${away > 1 ? ": more than all, as what is shown works against it" : away < 0 ? ": it works against what is shown" : ""}` : null;
  const { error } = payload.settings as { error?: { error: number } };
  const estimated = typeof error?.error === "number" ? `estimated: off by ${percent(error.error)} of what a sample was measured to be` : null;
  const idle = scene.items.some(({ kind, nodes }) => kind === "feature" && net.activations[nodes[0]] === 0) ? "0.00 on a card: not active in the prompt, only where a source is ablated" : null;
  const legend = sign === "source" ? "blue: the source raises its target; red: it lowers it" : "blue: ablating the source raises its target; red: it lowers it";

  /** Pins a node and opens its card; again, lets go of both. Groups and layers are only opened. */
  const toggle = (item: number): void => {
    const { key, nodes, kind } = scene.items[item];
    const open = picked?.item === key;
    pick(open ? null : { item: key });
    if (kind === "group" || kind === "layer" || nodes.length !== 1) return;
    const pinned = (marks.pinned ?? []).filter((one) => one !== key);
    choose({ pinned: open ? pinned : [...pinned, key] });
  };
  /** Goes to what is found; what is cut is pinned, so that it is there. */
  const goTo = (): void => {
    if (found.length) {
      canvas.current!.reveal(found[0]);
      if (at !== found[0]) toggle(found[0]);
    } else if (cut.length) {
      const { pinned, item } = bringUp(net, marks, cut[0]);
      pick({ item });
      choose({ pinned });
    }
  };
  const files = filesOf(net, scene, marks, keep, paths);
  return (
    <Stand
      shown={{ payload: { ...payload, python: files.python }, alone, tools }}
      caption={`${percent(keep)} of the weight of ${paths === "any" ? allOf(payload) : "edges on paths longer than one"}`}
      sentence={<Sentence outputs={payload.outputs} all={allOf(payload)} keep={keep} across={across} sign={sign} paths={paths} output={output} choose={choose} />}
      range={{ limit, signed: true, unit: "of activation", scale, each: null, onScale }}
      notes={[[`${kept}, ${whole}`, estimated, elsewhere].filter(Boolean).join(" · ")]}
      reading={[`${legend}; one scale for the whole graph`, effects, idle]}
      drawing={() => drawingOf(drawn)}
      table={() => files.table}
      more={files.tools}
    >
      <div class="graph" ref={place}>
        <div class="bar">
          <input type="search" placeholder="Find a feature, token or name" aria-label="Find in the graph" value={words} onInput={({ currentTarget }) => setWords(currentTarget.value)} onKeyDown={({ key }) => key === "Enter" && goTo()} />
          {words && (
            <span role="status">
              {counted(found.length, "card")}
              {cut.length > 0 && `, ${counted(cut.length, "node")} not shown${found.length ? "" : ": Enter pins the most active"}`}
            </span>
          )}
          <Folds dictionaries={payload.dictionaries} folded={marks.folded ?? []} choose={choose} />
          <span class="zooms" role="group" aria-label="Zoom">
            <button type="button" aria-label="Smaller" onClick={() => canvas.current!.zoomBy(0.8)}>
              −
            </button>
            <button type="button" aria-label="Show all of it" onClick={() => canvas.current!.fit()}>
              {Math.round(zoom * 100)}%
            </button>
            <button type="button" aria-label="Larger" onClick={() => canvas.current!.zoomBy(1.25)}>
              +
            </button>
          </span>
        </div>
        {width > 0 && (
          <GraphCanvas
            {...drawn}
            handle={canvas}
            label={`${payload.name}: ${kept}`}
            picked={at}
            found={new Set(found)}
            tip={(item) => tipOf(net, scene.items[item], marks, shownOutput)}
            onPick={toggle}
            onZoom={setZoom}
            tall={Math.max(320, innerHeight * 0.72)}
          />
        )}
        {scene.items.length === 0 && <p class="problem">{whyEmpty(net, keep)}</p>}
        <Cards net={net} scene={scene} marks={marks} sign={drawn.sign} choose={choose} picked={picked?.item ?? null} open={(key) => pick({ item: key })} close={() => pick(null)} toggle={(key) => toggle(numberOf(key)!)} />
        <EdgeTable net={net} scene={scene} marks={marks} />
      </div>
    </Stand>
  );
}

/** Which edges there are; a graph may have been traced without those on short paths. */
const allOf = ({ settings, dictionaries }: Payload): string => (settings.paths === "long" && dictionaries.length > 2 ? "all edges traced, on long paths" : "all edges");

/** Why nothing is shown, and what shows something. */
function whyEmpty(net: Net, keep: number): string {
  if (!net.weights.length) return "The graph has no edge: ask for more edges, or for smaller ones.";
  return prune(net, keep, "any").length === net.weights.length ? "No edge is on a path longer than one: show all edges." : "No edge is left: keep more of the weight, or show all edges.";
}

/** What is shown, as words that change it. */
function Sentence({ outputs, all, keep, across, sign, paths, output, choose }: Pick<Payload, "outputs"> & Required<Pick<Chosen, "keep" | "across" | "sign" | "paths" | "output">> & { all: string; choose: Choose }) {
  return (
    <>
      <span>
        Keep{" "}
        <label class="keep">
          <input type="range" min="0.01" max="1" step="0.01" value={keep} aria-label="Share of the weight that is kept" onInput={({ currentTarget }) => choose({ keep: currentTarget.valueAsNumber })} /> {percent(keep)}
        </label>{" "}
        of the weight of{" "}
        <Word
          label="Paths"
          value={paths}
          options={[
            ["any", all],
            ["long", "edges on paths longer than one"],
          ]}
          onChange={(paths) => choose({ paths })}
        />
      </span>{" "}
      <span>
        with layers as{" "}
        <Word
          label="Layers"
          value={across}
          options={[
            ["rows", "rows"],
            ["columns", "columns"],
          ]}
          onChange={(across) => choose({ across })}
        />
      </span>{" "}
      <span>
        and blue where <Word label="Sign" value={sign} options={SIGNS} onChange={(sign) => choose({ sign })} />
      </span>{" "}
      {outputs.length > 0 && (
        <span>
          and cards marked by their effect on{" "}
          <Word
            label="Effect on"
            value={String(output)}
            options={[...outputs.map((name, i) => [String(i), readOutput(name)] as const), [String(outputs.length), "nothing"] as const]}
            onChange={(output) => choose({ output: Number(output) })}
          />
        </span>
      )}
    </>
  );
}

/** A button a layer, that folds it into one card or shows its cards. */
function Folds({ dictionaries, folded, choose }: Pick<Payload, "dictionaries"> & { folded: readonly number[]; choose: Choose }) {
  return (
    <span class="layers" role="group" aria-label="Layers, folded or not">
      {[...new Set(dictionaries.map(({ layer }) => layer))].map((layer) => {
        const isFolded = folded.includes(layer);
        return (
          <button key={layer} type="button" aria-expanded={!isFolded} aria-label={`${isFolded ? "Unfold" : "Fold"} layer ${layer}`} title={`${dictionaries.find((one) => one.layer === layer)!.site}: ${isFolded ? "show its cards" : "show it as one card"}`} onClick={() => choose({ folded: isFolded ? folded.filter((one) => one !== layer) : [...folded, layer] })}>
            {isFolded ? "▸" : "▾"} {layer}
          </button>
        );
      })}
    </span>
  );
}

/** "rs.logit_difference(' Mary', ' John', pos=-1)" as people say it. */
const readOutput = (name: string): string => name.replace(/^rs\./, "").replace(/, pos=-1(?=\)$)/, "");

function drawingOf(drawn: Drawn): Drawing {
  return { size: [drawn.layout.width, drawn.layout.height + (drawn.heads.length ? 22 : 0)], draw: (pen, palette) => drawGraph(pen, drawn, palette) };
}

function tipOf(net: Net, item: Item, marks: Marks, output: number | null) {
  const { kind, nodes, pos, key } = item;
  const [node] = nodes;
  const piece = net.payload.pieces[pos];
  const effect = output === null ? null : effectOf(net, nodes, output);
  const where = kind === "token" ? visiblePiece(piece) : `at ${pos} ${visiblePiece(piece)}`;
  return {
    piece: nameOf(item, marks),
    value: nodes.length === 1 ? plain(net.activations[node]) : counted(nodes.length, "node"),
    facts: [
      ...(marks.names?.[key] ? [key] : []),
      ...(nodes.length === 1 ? [where] : []),
      ...(kind === "error" ? ["what the dictionary leaves unexplained, its length"] : []),
      ...(kind === "feature" && net.activations[node] === 0 ? ["not active in the prompt"] : []),
      ...(effect === null ? [] : [`effect on ${readOutput(net.payload.outputs[output!])} ${signed(effect)}`]),
      ...(marks.notes?.[key] ? [marks.notes[key]] : []),
    ],
  };
}

/** The edges for readers who do not see the canvas. */
function EdgeTable({ net, scene: { edges }, marks }: { net: Net; scene: { edges: Uint32Array }; marks: Marks }) {
  const [open, setOpen] = useState(false);
  const name = (node: number): string => (net.levels[node] === TOKEN ? `${net.keys[node]} ${visiblePiece(net.payload.pieces[net.pos[node]])}` : [net.keys[node], marks.names?.[net.keys[node]]].filter(Boolean).join(" "));
  return (
    <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>as a table</summary>
      {open && (
        <div class="table">
          <table>
            <thead>
              <tr>
                {["source", "activation", "weight", "target", "activation"].map((head, i) => (
                  <th key={i} scope="col">
                    {head}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {Array.from(edges.subarray(0, MOST_LINES), (edge) => (
                <tr key={edge}>
                  <td>{name(net.sources[edge])}</td>
                  <td>{plain(net.activations[net.sources[edge]])}</td>
                  <td>{signed(net.weights[edge])}</td>
                  <td>{name(net.targets[edge])}</td>
                  <td>{plain(net.activations[net.targets[edge]])}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {edges.length > MOST_LINES && <p>The {MOST_LINES} largest; CSV has all.</p>}
        </div>
      )}
    </details>
  );
}

export default present<Payload, Chosen, Picked>(Graph, (payload, arrays) => {
  const net = netOf(payload, arrays);
  const isNode: Check = (value) => net.numbers.has(value as string);
  return {
    chosen: {
      keep: (value) => typeof value === "number" && value > 0 && value <= 1,
      // Of what nodes, is not asked: a link may lead to a graph that grew from another.
      pinned: isList(isText),
      names: isRecordOf(isText),
      notes: isRecordOf(isText),
      groups: isRecordOf(isList(isText)),
      folded: isList(Number.isInteger),
      across: oneOf("rows", "columns"),
      sign: oneOf("source", "ablation"),
      paths: oneOf("any", "long"),
      output: below(payload.outputs.length + 1),
    },
    picked: (value) => isRecordOf(isText)(value) && /^(group:|layer:)/.test((value as Picked).item ?? "") || isNode((value as Picked)?.item),
    first: firstLook(payload.marks),
    onward: ({ item }) => {
      const node = net.numbers.get(item);
      if (node === undefined || net.levels[node] === TOKEN || net.features[node] < 0) return {};
      const { site, source } = payload.dictionaries[net.levels[node]];
      return { features: [{ site, source, feature: net.features[node], pos: net.pos[node], name: item }] };
    },
  };
});
