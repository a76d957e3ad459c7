import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parseArrays } from "../src/arrays.ts";
import { readFile } from "../src/views/graph/check.ts";
import { fromJson, toAttributionGraph, toDot, toJson, toTable } from "../src/views/graph/files.ts";
import { CARD, itemAt, type Layout, layOut, orderItems, routeOf, stepFrom } from "../src/views/graph/layout.ts";
import { bringUp, countKept, find, makeScene, type Marks, type Net, type Paths, pathsThrough, type Payload, prune, readNet } from "../src/views/graph/net.ts";
import { wrapped } from "../src/views/pen.ts";
import { writeCsv } from "../src/views/present.tsx";

const golden = JSON.parse(readFileSync("../tests/golden/graph.json", "utf-8"));
const { payload, arrays } = parseArrays<Payload>(fromJson(JSON.stringify(golden.file)));
const net = readNet(payload, arrays);
const { marks } = payload;
const all = prune(net, 1, "any");
const scene = makeScene(net, all, {});
const at = (key: string, of = scene): number => of.items.findIndex((item) => item.key === key);

test("a share keeps the edges that Graph.prune keeps", () => {
  for (const { share, paths, edges } of golden.kept as { share: number; paths: Paths; edges: number[] }[]) assert.deepEqual([...prune(net, share, paths, marks.pinned)].sort((a, b) => a - b), edges, `${share} ${paths}`);
});

test("the file is what Python wrote, and files of what is shown are those of Python", () => {
  const { result: _result, ...file } = golden.file;
  const { result: _, ...ours } = JSON.parse(toJson(net, marks));
  assert.deepEqual(ours, { ...file, dtype: "float32" });
  assert.equal(toDot(net, all, marks), golden.dot);
  const { nodes, links, qParams } = toAttributionGraph(net, all, marks) as Record<string, unknown>;
  assert.deepEqual({ nodes, links, qParams }, golden.attribution);
  const numbers = (csv: string): string[] => csv.replaceAll(/\.0\b/g, "").split("\n");
  assert.deepEqual(numbers(writeCsv(toTable(net, all))), numbers(golden.csv));
});

test("other files are refused with what was seen", () => {
  assert.throws(() => fromJson(JSON.stringify({ ...golden.file, version: 7 })), /version 7, and known is "residscope graph" of version 1/);
  assert.throws(() => fromJson('{"nodes": [], "links": []}'), /format undefined/);
});

test("a file that was damaged is refused with what is wrong", () => {
  const change = (part: (file: any) => void): Uint8Array<ArrayBuffer> => {
    const file = structuredClone(golden.file);
    part(file);
    return new TextEncoder().encode(JSON.stringify(file));
  };
  const cases: [(file: any) => void, RegExp][] = [
    [({ edges }) => (edges[1].source = 99999), /edge 1 has no ends/],
    [({ edges }) => (edges[1].source = 0.5), /edge 1 has no ends/],
    [({ edges }) => (edges[2].weight = "abc"), /edge 2 has no finite numbers/],
    [({ edges }) => (edges[2].weight = "0.5"), /edge 2 has no finite numbers/],
    [({ edges }) => ([edges[0].source, edges[0].target] = [edges[0].target, edges[0].source]), /edge 0 leads to no later/],
    [({ edges }) => edges.push(edges[0]), /stands there twice/],
    [({ edges }) => (edges[0].parts = [1]), /parts are/],
    [({ nodes }) => (nodes[3].level = 9), /node 3 is of no dictionary/],
    [({ nodes }) => (nodes[3].pos = 99), /node 3 is at no position/],
    [({ nodes }) => (nodes[3].feature = 1e7), /node 3 is no feature/],
    [({ nodes }) => (nodes[3].activation = null), /node 3 has no finite/],
    [({ nodes }) => nodes.push(nodes[3]), /stands there twice/],
    [(file) => (file.total = 0.001), /total is 0.001, and its weights sum to/],
    [(file) => (file.marks = { pinned: 5 }), /marks are {"pinned":5}/],
    [(file) => (file.marks = { look: { across: "circles" } }), /marks are {"look"/],
    [(file) => delete file.pieces, /pieces are missing/],
    [(file) => delete file.outputs, /outputs are missing/],
    [(file) => delete file.nodes, /nodes are no list/],
    [(file) => (file.edges[0] = null), /edges are no list/],
    [({ edges }) => delete edges[0].parts, /has no finite numbers|parts are/],
    [(file) => (file.dictionaries[0].layer = "two"), /dictionaries are/],
  ];
  for (const [part, says] of cases) assert.throws(() => readFile(change(part)), says, String(part));
  assert.ok(readFile(change(() => {})).length);
  assert.ok(readFile(change((file) => delete file.marks)).length);
});

test("a group and a folded layer are one card each, whose edges are sums", () => {
  const marked = makeScene(net, all, marks);
  const [group, layer, above] = [at("group:two of layer 1", marked), at("layer:0", marked), at("2.10603@1", marked)];
  assert.ok(above < 0, "its layer is 5");
  assert.deepEqual(marked.items[group].nodes.map((node) => net.keys[node]), ["1.301@1", "1.5@1"]);
  assert.deepEqual(marked.items[layer].nodes.map((node) => net.keys[node]), ["0.7@0", "0.error@1", "0.9@1"]);
  const between = marked.links.find(({ from, to }) => from === layer && to === group)!;
  assert.equal(between.weight, 0.25 + 0.75 + 0.5);
  const total = (links: typeof marked.links): number => links.reduce((sum, { edges }) => sum + edges.length, 0);
  assert.equal(total(marked.links), all.length);
});

test("what is pinned stays when its edges go", () => {
  const few = makeScene(net, prune(net, 0.1, "any"), { pinned: ["5.17@1", "not there"] });
  assert.ok(at("5.17@1", few) >= 0);
  assert.equal(few.n_nodes, 3);
});

test("paths through a node are what comes before it and what comes after, not what lies beside", () => {
  const { items, links } = pathsThrough(scene, at("1.300@1"));
  const names = [...items].map((i) => scene.items[i].key).sort();
  assert.deepEqual(names, ["0.7@0", "1.300@1", "5.10603@1", "token@0", "token@1"]);
  assert.equal(links.size, 4);
});

test("a search finds numbers, tokens and names", () => {
  const found = (words: string, among: Marks = marks): string[] => find(net, scene, among, words).items.map((i) => scene.items[i].key);
  assert.deepEqual(found("10603"), ["5.10603@1"]);
  assert.deepEqual(found("·CAT"), scene.items.filter(({ pos }) => pos === 1).map(({ key }) => key));
  assert.deepEqual(find({ ...net, payload: { ...payload, positions: [1] } }, scene, marks, "cat").items.map((i) => scene.items[i].key), ["token@1"]);
  assert.deepEqual(found("animal"), ["1.300@1"]);
  assert.deepEqual(found("first"), ["0.7@0"]);
  assert.deepEqual(found("  "), []);
});

test("a search finds what is cut, and brings it up by a pin, its group or its folded layer", () => {
  const few = makeScene(net, prune(net, 0.1, "any"), {});
  const { items, cut } = find(net, few, {}, "5.17@1");
  assert.deepEqual([items, cut.map((node) => net.keys[node])], [[], ["5.17@1"]]);
  const up = (among: Marks) => bringUp(net, among, cut[0]);
  assert.deepEqual(up({ pinned: ["0.7@0"] }), { pinned: ["0.7@0", "5.17@1"], item: "5.17@1" });
  assert.deepEqual(up({ groups: { last: ["5.17@1"] } }), { pinned: [], item: "group:last" });
  assert.deepEqual(up({ folded: [5] }), { pinned: ["5.17@1"], item: "layer:5" });
});

for (const across of ["rows", "columns"] as const)
  test(`cards in ${across} stand apart, later layers after earlier ones`, () => {
    const big = random(400, 6);
    const many = makeScene(big, prune(big, 0.7, "any"), {});
    const layout = layOut(many, orderItems(many, many.items.map(() => 1)), across, 800);
    const taken = new Set<string>();
    many.items.forEach(({ level }, i) => {
      const [x, y] = [layout.x[i], layout.y[i]];
      assert.ok(x >= 0 && y >= 0 && x + CARD[0] <= layout.width + 1e-3 && y + CARD[1] <= layout.height + 1e-3);
      const cell = `${Math.round(x)} ${Math.round(y)}`;
      assert.ok(!taken.has(cell), cell);
      taken.add(cell);
      assert.equal(itemAt(layout, x + 1, y + 1), i);
      for (const [j, other] of many.items.entries()) if (other.level > level) assert.ok(across === "rows" ? layout.y[j] < y : layout.x[j] > x);
    });
    const [x0, y0] = routeOf(layout, many.links[0].from, many.links[0].to)[0];
    const [x3, y3] = routeOf(layout, many.links[0].from, many.links[0].to).at(-1)!.slice(6);
    assert.ok(across === "rows" ? y3 < y0 : x3 > x0);
  });

/** Points of the ways of all links, but their ends, that lie on a card. */
function hidden(layout: Layout, { links }: Pick<typeof scene, "links">): string[] {
  const found: string[] = [];
  for (const { from, to } of links) {
    const points = routeOf(layout, from, to).flatMap(([x0, y0, x1, y1, x2, y2, x3, y3]) =>
      Array.from({ length: 21 }, (_, i): [number, number] => {
        const [t, s] = [i / 20, 1 - i / 20];
        const at = (a: number, b: number, c: number, d: number): number => s * s * s * a + 3 * s * s * t * b + 3 * s * t * t * c + t * t * t * d;
        return [at(x0, x1, x2, x3), at(y0, y1, y2, y3)];
      }),
    );
    for (const [x, y] of points.slice(1, -1))
      for (let i = 0; i < layout.x.length; i++) if (x > layout.x[i] + 0.1 && y > layout.y[i] + 0.1 && x < layout.x[i] + layout.card[0] - 0.1 && y < layout.y[i] + layout.card[1] - 0.1) found.push(`${from} -> ${to} under ${i}`);
  }
  return found;
}

for (const across of ["rows", "columns"] as const)
  for (const room of [328, 771])
    test(`no edge runs behind a card, nor ends where another does: ${across} in ${room} px`, () => {
      const big = random(150, 5);
      const many = makeScene(big, prune(big, 0.3, "any"), {});
      const layout = layOut(many, orderItems(many, many.items.map(() => 1)), across, room);
      assert.deepEqual(hidden(layout, many), []);
      // Also through layers between its ends.
      const far = many.items.flatMap(({ level }, from) => (level === 0 ? many.items.flatMap((other, to) => (other.level > 1 ? [{ from, to, weight: 1, edges: [] }] : [])) : []));
      assert.ok(far.length > 100);
      assert.deepEqual(hidden(layout, { links: far }), []);
      // Of a group edges also lead back, and to others of the layer in which it stands.
      const beside = many.items.flatMap(({ level }, to) => (level < 3 && to !== 70 ? [{ from: 70, to, weight: 1, edges: [] }] : []));
      assert.equal(many.items[70].level, 2);
      assert.deepEqual(hidden(layout, { links: beside }), []);
      // In the gap between two cards each has a lane of its own.
      for (const ends of [layout.from, layout.into]) {
        const lanes = many.items.map((_, i) => `${layout.rowOf[i]} ${ends[i].toFixed(2)}`);
        const behind = lanes.filter((_, i) => ends[i] > (across === "rows" ? layout.x[i] + layout.card[0] : layout.y[i] + layout.card[1]));
        assert.ok(behind.length > 0);
        assert.equal(new Set(behind).size, behind.length);
      }
    });

test("all of a large graph at many positions is no strip: layers grow broader than the room", () => {
  const big = random(2000, 5);
  const spread = { ...big, pos: big.pos.map((_, i) => i % 15) };
  const many = makeScene(spread, prune(spread, 1, "any"), {});
  const { width, height } = layOut(many, orderItems(many, many.items.map(() => 1)), "rows", 771);
  assert.ok(height < 2 * width, `${width} x ${height}`);
});

test("where a layer has two dictionaries, ids of nodes are told apart by what the later one reads", () => {
  const [first, second] = payload.dictionaries;
  const twice = readNet({ ...payload, dictionaries: [first, { ...second, layer: first.layer, site: `mlp_out.${first.layer}`, dictionary: "other" }, ...payload.dictionaries.slice(2)] }, arrays);
  const { nodes, links } = toAttributionGraph(twice, all, marks) as { nodes: { node_id: string; ctx_idx: number }[]; links: { source: string; target: string }[] };
  const ids = nodes.map(({ node_id }) => node_id);
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(ids.includes("0_7_0") && ids.includes("0_300_1_mlp_out"), ids.join());
  assert.equal(nodes.find(({ node_id }) => node_id === "0_300_1_mlp_out")!.ctx_idx, 1);
  assert.ok(links.every(({ source, target }) => ids.includes(source) && ids.includes(target)));
});

test("where Neuronpedia has pages of all dictionaries, the attribution graph names their model and source set", () => {
  const metadataOf = (pages: (layer: number) => string | null) =>
    (toAttributionGraph(readNet({ ...payload, dictionaries: payload.dictionaries.map((one) => ({ ...one, pages: pages(one.layer) })) }, arrays), all, marks) as { metadata: { scan: string; feature_details?: unknown } }).metadata;
  const { scan, feature_details } = metadataOf((layer) => `gpt2-small/${layer}-res-jb`);
  assert.deepEqual([scan, feature_details], ["gpt2-small", { neuronpedia_source_set: "res-jb" }]);
  for (const pages of [() => null, (layer: number) => (layer ? `gpt2-small/${layer}-res-jb` : null)]) {
    const { scan, feature_details } = metadataOf(pages);
    assert.deepEqual([scan, feature_details], ["tiny", undefined]);
  }
});

test("a name takes two lines of a card, broken between words", () => {
  assert.deepEqual(wrapped("giver", 60, 11), ["giver", ""]);
  assert.deepEqual(wrapped("the giver of it", 60, 11), ["the giver", "of it"]);
  assert.deepEqual(wrapped("the giver of all the things", 60, 11), ["the giver", "of all th…"]);
  assert.deepEqual(wrapped("extraordinarily", 60, 11), ["extraordin", "arily"]);
});

test("arrow keys go to the nearest card in their direction, and back", () => {
  const layout = layOut(scene, orderItems(scene, scene.items.map(() => 1)), "rows", 800);
  const start = at("0.7@0");
  const up = stepFrom(layout, start, "ArrowUp")!;
  assert.equal(scene.items[up].level, 1);
  assert.equal(scene.items[stepFrom(layout, up, "ArrowDown")!].level, 0);
  assert.equal(stepFrom(layout, start, "x"), null);
});

test("a graph of 2,000 nodes is read, cut and laid out within a tenth of a second", () => {
  const big = random(2000, 12);
  const begin = performance.now();
  const many = makeScene(big, prune(big, 0.5, "long"), {});
  layOut(many, orderItems(many, many.items.map(() => 1)), "rows", 1200);
  assert.ok(performance.now() - begin < 500, "five times that, on a machine that others use"); // benchmarks.graph_page says how long
  assert.ok(countKept(big, 0.5) < big.weights.length);
});

/** A net of so many nodes in layers, each with ten edges to the next. */
function random(n: number, n_levels: number): Net {
  let state = 1;
  const draw = (below: number): number => (state = (state * 48271) % 2147483647) % below;
  const levels = Float32Array.from({ length: n }, (_, i) => Math.floor((i * n_levels) / n));
  const per = n / n_levels;
  const sources = Float32Array.from({ length: 10 * Math.floor(n - per) }, (_, i) => Math.floor(i / 10));
  const targets = sources.map((source) => Math.min(n - 1, Math.floor((levels[source] + 1) * per) + draw(Math.floor(per))));
  const values = sources.map(() => (draw(2001) - 1000) / 500);
  const column = (data: Float32Array) => ({ shape: [data.length], data });
  return readNet(
    { ...payload, dictionaries: Array.from({ length: n_levels }, (_, layer) => ({ ...payload.dictionaries[0], layer, site: `resid_pre.${layer}` })) },
    {
      levels: column(levels),
      features: column(Float32Array.from({ length: n }, (_, i) => i)),
      pos: column(new Float32Array(n)),
      activations: column(new Float32Array(n).fill(1)),
      effects: { shape: [n, 0], data: new Float32Array() },
      sources: column(sources),
      targets: column(targets),
      values: column(values),
      before: column(values),
      parts: { shape: [values.length, 0], data: new Float32Array() },
    },
  );
}
