// Search: which components and dictionary features are most active in the selected text, or lie nearest to a direction.

import { useEffect, useState } from "preact/hooks";
import { signed } from "../../numbers.ts";
import { Word } from "../../views/legend.tsx";
import { visiblePiece } from "../../views/reading.ts";
import { type Found, isAbort, type Made, type Match, server, wordsOf } from "../server.ts";
import { component } from "./address.ts";
import { alongOf, change, choose, chosen, picked, picture, wanted } from "./state.ts";

const TOP = 12; // of each kind

/** A line of what was found. */
interface Line {
  name: string;
  of: Made;
  value: number;
  pos: number | null;
}

const NAMES = { pca: "components", feature: "dictionary features", saved: "saved directions" };

function linesOf({ found, saved }: Found): Record<keyof typeof NAMES, Line[]> {
  const lines = (kind: Match["kind"]): Line[] =>
    found.filter((match) => match.kind === kind).map(({ number, value, pos }) => ({ name: kind === "pca" ? `PCA ${number}` : `feature ${number}`, of: kind === "pca" ? component(number) : { kind: "feature", feature: number }, value, pos }));
  return { pca: lines("pca"), feature: lines("feature"), saved: saved.map(({ id, revision, name, owner, value, pos = null }) => ({ name: `${name}, ${owner}’s`, of: { kind: "saved", id, revision }, value, pos })) };
}

export function Find() {
  const { find } = wanted.value;
  const now = picture.value;
  const [found, setFound] = useState<Found | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const text = now?.texts[chosen.value];
  const pos = picked.value?.pos ?? null;
  const { by, token } = find ?? { by: "text", token: "" };
  const wish = JSON.stringify([by, now?.site, by === "text" ? [text?.text, pos] : by === "token" ? token : now && alongOf(now)]);
  useEffect(() => {
    if (!find || !now) return;
    const controller = new AbortController();
    const put = (found: Found): void => {
      setProblem(null);
      setFound(found);
    };
    const nothing: Found = { found: [], saved: [] };
    const ask = async (): Promise<Found> => {
      if (by === "text") return text ? server.active(text.text, now.site, pos, TOP, controller.signal) : nothing;
      if (by === "token" && !token) return nothing;
      return by === "token" ? server.promoting(now.site, token, TOP, controller.signal) : server.nearest(now.site, alongOf(now), TOP, controller.signal);
    };
    ask().then(put, (error) => isAbort(error) || (setFound(null), setProblem(wordsOf(error))));
    return () => controller.abort();
  }, [find !== null, wish]);
  if (!find) return null;
  const groups = found ? linesOf(found) : { pca: [], feature: [], saved: [] };
  const kinds = (["pca", "feature", "saved"] as const).filter((kind) => groups[kind].length);
  const unit = (kind: keyof typeof NAMES): string => (by === "text" ? (kind === "feature" ? "activation" : "sd") : "cosine");
  return (
    <section class="find" aria-label="Search">
      <div class="sentence" role="group" aria-label="What is searched for">
        <span>
          Find what{" "}
          <Word
            label="Search by"
            value={by}
            options={[
              ["text", "is most active in"],
              ["token", "makes a token likely:"],
              ["vector", "points the same way as"],
            ]}
            onChange={(by) => change({ find: { by, token } })}
          />
        </span>
        {by === "text" && <span>{text ? `${text.label}${pos === null ? "" : `, at token ${pos}, “${visiblePiece(text.pieces[pos])}”`}` : "…"}</span>}
        {by === "token" && <input class="typed" aria-label="Token" placeholder="its text, then Enter" spellcheck={false} value={token} onChange={({ currentTarget }) => change({ find: { by, token: currentTarget.value } })} />}
        {by === "vector" && <span>{now?.name}</span>}
        {by === "token" && <small>by the direct path alone: cosine to its column of the unembedding, the norm folded in{found?.through && `, read through ${found.through}`}</small>}
      </div>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <div class="found">
        {kinds.map((kind) => (
          <Group key={kind} title={NAMES[kind]} unit={unit(kind)} lines={groups[kind]} pieces={by === "text" && pos === null ? (text?.pieces ?? []) : []} />
        ))}
        {found && kinds.length === 0 && <p>{by === "token" ? "Write a token, with its space in front where it has one." : "Nothing was found."}</p>}
      </div>
    </section>
  );
}

function Group({ title, unit, lines, pieces }: { title: string; unit: string; lines: Line[]; pieces: string[] }) {
  const most = Math.max(...lines.map(({ value }) => Math.abs(value)), 1e-12);
  return (
    <section aria-label={`${lines.length} among ${title}`}>
      <h3>
        {title}
        <span>{unit}</span>
      </h3>
      <ol class="ranking">
        {lines.map(({ name, of, value, pos }) => (
          <li key={JSON.stringify(of)}>
            <button type="button" title={`Show ${name}`} onClick={() => void choose(of, "alone")}>
              <span>{name}</span>
              <i class={value < 0 ? "negative" : "positive"} style={{ width: `${(100 * Math.abs(value)) / most}%` }} />
              <span>{unit === "cosine" ? value.toFixed(2).replace("-0.00", "0.00").replace("-", "−") : signed(value)}</span>
              {pos !== null && pieces[pos] !== undefined && <span class="where">{visiblePiece(pieces[pos])}</span>}
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}
