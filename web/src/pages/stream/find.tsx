// Search: which components and dictionary features are most active in the selected text, or lie nearest to a direction.

import { useEffect, useState } from "preact/hooks";
import { signed } from "../../numbers.ts";
import { Word } from "../../views/legend.tsx";
import { visiblePiece } from "../../views/reading.ts";
import { isAbort, type Made, type Match, server, wordsOf } from "../server.ts";
import { component } from "./address.ts";
import { alongOf, change, choose, chosen, picked, picture, wanted } from "./state.ts";

const TOP = 12; // of each kind

const NAMES: Record<Match["kind"], string> = { pca: "components", feature: "dictionary features" };
const madeOf = ({ kind, number }: Match): Made => (kind === "pca" ? component(number) : { kind: "feature", feature: number });
const nameOf = ({ kind, number }: Match): string => (kind === "pca" ? `PCA ${number}` : `feature ${number}`);

export function Find() {
  const { find } = wanted.value;
  const now = picture.value;
  const [found, setFound] = useState<Match[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const text = now?.texts[chosen.value];
  const pos = picked.value?.pos ?? null;
  const { by, token } = find ?? { by: "text", token: "" };
  const wish = JSON.stringify([by, now?.site, by === "text" ? [text?.text, pos] : by === "token" ? token : now && alongOf(now)]);
  useEffect(() => {
    if (!find || !now) return;
    const controller = new AbortController();
    const put = ({ found }: { found: Match[] }): void => {
      setProblem(null);
      setFound(found);
    };
    const ask = async (): Promise<{ found: Match[] }> => {
      if (by === "text") return text ? server.active(text.text, now.site, pos, TOP, controller.signal) : { found: [] };
      if (by === "token" && !token) return { found: [] };
      return server.nearest(now.site, by === "token" ? [{ weight: 1, of: { kind: "token", token, here: true } }] : alongOf(now), TOP, controller.signal);
    };
    ask().then(put, (error) => isAbort(error) || (setFound(null), setProblem(wordsOf(error))));
    return () => controller.abort();
  }, [find !== null, wish]);
  if (!find) return null;
  const kinds = (["pca", "feature"] as const).filter((kind) => found?.some((match) => match.kind === kind));
  const unit = (kind: Match["kind"]): string => (by === "text" ? (kind === "pca" ? "sd" : "") : "cosine");
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
        {by === "token" && <input class="typed" aria-label="Token" placeholder="its text" spellcheck={false} value={token} onChange={({ currentTarget }) => change({ find: { by, token: currentTarget.value } })} />}
        {by === "vector" && <span>{now?.name}</span>}
        {by === "token" && <small>by the direct path alone: cosine to its column of the unembedding, the norm folded in</small>}
      </div>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <div class="found">
        {kinds.map((kind) => (
          <Group key={kind} title={NAMES[kind]} unit={unit(kind)} matches={found!.filter((match) => match.kind === kind)} pieces={by === "text" && pos === null ? (text?.pieces ?? []) : []} />
        ))}
        {found?.length === 0 && <p>{by === "token" ? "Write a token, with its space in front where it has one." : "Nothing was found."}</p>}
      </div>
    </section>
  );
}

function Group({ title, unit, matches, pieces }: { title: string; unit: string; matches: Match[]; pieces: string[] }) {
  const most = Math.max(...matches.map(({ value }) => Math.abs(value)), 1e-12);
  return (
    <section aria-label={`${matches.length} among ${title}`}>
      <h3>
        {title}
        <span>{unit}</span>
      </h3>
      <ol class="ranking">
        {matches.map((match) => (
          <li key={match.number}>
            <button type="button" title={`Show ${nameOf(match)}`} onClick={() => void choose(madeOf(match), "alone")}>
              <span>{nameOf(match)}</span>
              <i class={match.value < 0 ? "negative" : "positive"} style={{ width: `${(100 * Math.abs(match.value)) / most}%` }} />
              <span>{signed(match.value)}</span>
              {match.pos !== null && pieces[match.pos] !== undefined && <span class="where">{visiblePiece(pieces[match.pos])}</span>}
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}
