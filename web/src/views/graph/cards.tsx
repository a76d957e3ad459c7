// What is pinned in a graph, beside each other: what goes into each and out of it, names and notes; groups of them.

import { useState } from "preact/hooks";
import { counted, plain, signed } from "../../numbers.ts";
import { visiblePiece } from "../reading.ts";
import type { Item, Link, Marks, Net, Scene } from "./net.ts";

const MOST = 8; // edges of each side
const PARTS = 3; // of an edge's split, the largest

interface Props {
  net: Net;
  scene: Scene;
  marks: Marks;
  sign: 1 | -1; // -1: what ablating does
  choose: (changed: Partial<Marks>) => void;
  picked: string | null;
  open: (item: string) => void;
  close: () => void;
  toggle: (item: string) => void;
}

/** A record with one entry changed; without it where the text is empty. */
const write = (record: Readonly<Record<string, string>> = {}, key: string, text: string): Record<string, string> => {
  const { [key]: _, ...rest } = record;
  return text.trim() ? { ...rest, [key]: text.trim() } : rest;
};

export function Cards(props: Props) {
  const { scene, marks, choose, picked } = props;
  const byKey = new Map(scene.items.map((item, i) => [item.key, i]));
  const shown = [...new Set([...(picked ? [picked] : []), ...(marks.pinned ?? []).toReversed()])].filter((key) => byKey.has(key));
  const [free, hidden] = [true, false].map((there) => (marks.pinned ?? []).filter((key) => byKey.has(key) === there));
  if (!shown.length && !hidden.length) return <p class="hint">A click on a card pins it, and opens what goes into it and out of it. Several that are pinned can be grouped.</p>;
  return (
    <section class="pinned" aria-label="Pinned">
      {free.length + hidden.length > 0 && <Grouping free={free} marks={marks} choose={choose} open={props.open} />}
      <div class="faces">
        {shown.map((key) => (
          <Card key={key} {...props} at={byKey.get(key)!} />
        ))}
        {hidden.map((key) => (
          <Hidden key={key} {...props} node={key} />
        ))}
      </div>
    </section>
  );
}

/** A node that is pinned, and shown as part of a group or of a folded layer. */
function Hidden({ net, scene, marks, choose, open, node }: Props & { node: string }) {
  const holder = scene.items.find(({ nodes }) => nodes.includes(net.numbers.get(node)!))!;
  const part = holder.kind === "group" ? `group ${holder.key.slice(6)}` : `layer ${holder.key.slice(6)}, which is folded`;
  return (
    <article class="face" aria-label={node}>
      <h3>
        <button type="button" title="Show its paths" onClick={() => open(holder.key)}>
          {node}
        </button>
        <button type="button" aria-label={`Unpin ${node}`} onClick={() => choose({ pinned: marks.pinned!.filter((one) => one !== node) })}>
          ×
        </button>
      </h3>
      <p>
        {marks.names?.[node]} in {part}
      </p>
    </article>
  );
}

function Grouping({ free, marks, choose, open }: { free: readonly string[]; marks: Marks; choose: Props["choose"]; open: Props["open"] }) {
  const [name, setName] = useState("");
  const taken = Object.hasOwn(marks.groups ?? {}, name.trim());
  const group = (): void => {
    const called = name.trim();
    if (!called || taken) return;
    choose({ groups: { ...marks.groups, [called]: free }, pinned: [] });
    setName("");
    open(`group:${called}`);
  };
  return (
    <form
      class="grouping"
      onSubmit={(event) => {
        event.preventDefault();
        group();
      }}
    >
      {free.length > 1 && (
        <>
          <label>
            Group these {free.length} as <input value={name} aria-label="Name of the group" placeholder="a name" onInput={({ currentTarget }) => setName(currentTarget.value)} />
          </label>
          <button type="submit" disabled={!name.trim() || taken}>
            Group
          </button>
          {taken && <span role="status">There is a group of that name.</span>}
        </>
      )}
      <button type="button" onClick={() => choose({ pinned: [] })}>
        Unpin all
      </button>
    </form>
  );
}

function Card({ net, scene, marks, sign, choose, picked, open, close, toggle, at }: Props & { at: number }) {
  const item = scene.items[at];
  const { key, kind, nodes } = item;
  const [node] = nodes;
  const single = nodes.length === 1 && kind !== "group";
  const name = kind === "group" ? key.slice(6) : key;
  const leave = (): void => {
    if (picked === key) close();
    choose({ pinned: (marks.pinned ?? []).filter((one) => one !== key) });
  };
  const rename = (text: string): void => {
    if (kind !== "group") return choose({ names: write(marks.names, key, text) });
    const called = text.trim();
    if (!called || Object.hasOwn(marks.groups!, called)) return;
    choose({ groups: Object.fromEntries(Object.entries(marks.groups!).map(([one, members]) => [one === name ? called : one, members])) });
    open(`group:${called}`);
  };
  return (
    <article class={picked === key ? "face open" : "face"} aria-label={kind === "group" ? `Group ${name}` : name}>
      <h3>
        <button type="button" title="Show its paths" onClick={() => open(key)}>
          {kind === "layer" ? `layer ${key.slice(6)}` : name}
        </button>
        <button type="button" aria-label={`Unpin ${name}`} onClick={leave}>
          ×
        </button>
      </h3>
      <p>
        {single ? (
          <>
            {kind === "feature" ? "activation " : "length "}
            <b>{plain(net.activations[node])}</b> at {item.pos} “{visiblePiece(net.payload.pieces[item.pos])}”
            {net.payload.outputs.map((output, i) => (
              <span key={output}>
                {" "}
                · effect on {output.replace(/^rs\./, "")} <b>{signed(net.effects.data[node * net.effects.shape[1] + i])}</b>
              </span>
            ))}
          </>
        ) : (
          `${counted(nodes.length, "node")}; edges are sums`
        )}
      </p>
      {kind !== "layer" && <input class="name" aria-label={`Name of ${name}`} placeholder="name" value={kind === "group" ? name : (marks.names?.[key] ?? "")} onChange={({ currentTarget }) => rename(currentTarget.value)} />}
      {single && <textarea aria-label={`Note on ${name}`} placeholder="note" rows={1} value={marks.notes?.[key] ?? ""} onChange={({ currentTarget }) => choose({ notes: write(marks.notes, key, currentTarget.value) })} />}
      {kind === "group" && (
        <p class="members">
          {nodes.map((one) => (
            <span key={one}>{[net.keys[one], marks.names?.[net.keys[one]]].filter(Boolean).join(" ")}</span>
          ))}
          <button
            type="button"
            onClick={() => {
              const { [name]: members, ...rest } = marks.groups!;
              choose({ groups: rest, pinned: [...new Set([...(marks.pinned ?? []), ...members])] });
              close();
            }}
          >
            Ungroup
          </button>
        </p>
      )}
      <Edges net={net} title="from" ends={scene.into[at]} end="from" scene={scene} marks={marks} sign={sign} toggle={toggle} />
      <Edges net={net} title="to" ends={scene.from[at]} end="to" scene={scene} marks={marks} sign={sign} toggle={toggle} />
    </article>
  );
}

/** What an edge does before the target's threshold, and the largest parts of that. */
function splitOf({ payload: { part_names }, parts, before }: Net, { edges }: Link, sign: number): string {
  const sum = (values: Float32Array, width: number, at: number): number => sign * edges.reduce((sum, edge) => sum + values[edge * width + at], 0);
  const all = part_names.map((name, i) => ({ name, value: sum(parts.data, part_names.length, i) })).sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const shown = all.slice(0, PARTS).map(({ name, value }) => `${name} ${signed(value)}`);
  return `${signed(sum(before, 1, 0))} before its threshold: ${shown.join(", ")}${all.length > PARTS ? ", …" : ""}`;
}

/** The strongest edges on one side. */
function Edges({ net, title, ends, end, scene, marks, sign, toggle }: { title: string; ends: readonly number[]; end: "from" | "to" } & Pick<Props, "net" | "scene" | "marks" | "sign" | "toggle">) {
  const links: Link[] = ends.map((i) => scene.links[i]).toReversed(); // the strongest first
  if (!links.length) return null;
  const most = Math.abs(links[0].weight);
  const label = ({ key, kind }: Item): string => (kind === "group" ? key.slice(6) : kind === "layer" ? key.replace(":", " ") : (marks.names?.[key] ?? key));
  return (
    <section>
      <h4>
        {title} {links.length > MOST && <span>{MOST} of {links.length}</span>}
      </h4>
      <ol>
        {links.slice(0, MOST).map((link) => {
          const other = scene.items[link[end]];
          return (
            <li key={other.key}>
              <button type="button" title={`Pin ${label(other)}`} onClick={() => toggle(other.key)}>
                <span>{label(other)}</span>
                <i class={sign * link.weight < 0 ? "negative" : "positive"} style={{ width: `${(100 * Math.abs(link.weight)) / most}%` }} />
                <span>{signed(sign * link.weight)}</span>
              </button>
              {net.payload.part_names.length > 0 && <small>{splitOf(net, link, sign)}</small>}
            </li>
          );
        })}
      </ol>
    </section>
  );
}
