import { computed, effect, signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { View } from "../../host.ts";
import { counted, histogram, percent, rounded, signed } from "../../numbers.ts";
import causalCheck from "../../views/causal_check.tsx";
import explanation from "../../views/explanation.tsx";
import { CENTRES } from "../../views/legend.tsx";
import { type Centre, rankOf, shownValues, type Units, unitName, valueText, visiblePiece } from "../../views/reading.ts";
import { useAnalysis } from "../analysis.ts";
import { Hosted } from "../hosted.tsx";
import { open } from "../keys.ts";
import type { DirectionFacts as Made, Pca, Term } from "../server.ts";
import { Status } from "../status.tsx";
import { type Asked as What, readAsked, rowOfPlace, writeAsked } from "./address.ts";
import { activity, type Follower, river } from "./followers.ts";
import * as state from "./state.ts";

const BINS = 40;
const MOST_CHECKED = 8; // texts of a causal check, which takes a while
const SPREAD = 4; // standard deviations on each side of the histogram

interface DirectionFacts {
  kind: "direction";
  name: string;
  share: number;
  pca: Pca;
  along: readonly Term[];
  component: number | null;
  history: Made["history"] | null; // of the one direction that is shown, where it is one
  centre: Centre;
  units: Units;
  limit: number; // of the histogram
  counts: number[];
  mark: number | null; // value of the picked token
  texts: string[]; // that a causal check takes: of those shown, one's own first
}

interface TokenFacts {
  kind: "token";
  name: string; // of the direction
  piece: string;
  pos: number;
  value: number;
  rank: number;
  n: number;
  units: Units;
  label: string; // of the text
  leftOut: boolean;
  rows: string[];
  curve: number[] | null; // lowest layer first
  here: number;
  active: { component: number; sd: number }[] | null;
  among: number;
  problem: Follower<unknown>["problem"];
}

type Facts = DirectionFacts | TokenFacts;

const directionFacts = computed((): DirectionFacts | null => {
  const { value: picture } = state.picture;
  const { value: direction } = state.direction;
  if (!picture || !direction) return null;
  const { units, centre } = state.settings.value;
  const inSd = units === "sd" && direction.deviation !== null;
  const middle = centre === "none" ? direction.offset / (inSd ? direction.deviation! : 1) : 0;
  const limit = Math.abs(middle) + SPREAD * (inSd ? 1 : (direction.deviation ?? 1));
  const values = state.shownTexts.value.flatMap((row) => Array.from(row).filter((_, pos) => !direction.left_out.includes(pos)));
  const { value: at } = state.picked;
  return {
    kind: "direction",
    name: picture.name,
    share: picture.sum.share,
    pca: picture.pca,
    along: state.alongOf(picture),
    component: picture.component,
    history: picture.rows.length === 1 ? picture.facts[0].history : null,
    centre,
    units: inSd ? "sd" : "stream",
    limit,
    counts: histogram(values, limit, BINS),
    texts: [...picture.texts.filter(({ own }) => own), ...picture.texts.filter(({ own }) => !own)].filter(({ pieces }) => pieces.length > 2).slice(0, MOST_CHECKED).map(({ text }) => text),
    mark: at && !direction.left_out.includes(at.pos) ? state.shownTexts.value[at.text][at.pos] : null,
  };
});

const tokenFacts = computed((): TokenFacts | null => {
  const { value: at } = state.picked;
  const { value: direction } = state.direction;
  if (!at || !direction) return null;
  const { units, centre } = state.settings.value;
  const text = state.picture.value!.texts[at.text];
  const { pca } = state.picture.value!;
  const values = state.shownTexts.value[at.text];
  const flow = river.answer.value.value;
  const rows = flow?.text === text.text ? flow.rows : [];
  const { value: seen, old, problem } = activity.answer.value;
  const ready = old ? null : seen;
  const active = ready && ready.width === text.pieces.length
    ? Array.from({ length: ready.components }, (_, component) => ({ component, sd: ready.values[component * ready.width + at.pos] / pca.deviations[component] }))
        .filter(({ sd }) => Number.isFinite(sd))
        .sort((a, b) => Math.abs(b.sd) - Math.abs(a.sd))
        .slice(0, 8)
    : null;
  return {
    kind: "token",
    name: direction.name,
    piece: text.pieces[at.pos],
    pos: at.pos,
    value: values[at.pos],
    rank: rankOf(values, values[at.pos]),
    n: values.length,
    units: direction.deviation === null ? "stream" : units,
    label: text.label,
    leftOut: direction.left_out.includes(at.pos),
    rows,
    curve: rows.length ? Array.from(shownValues(Float32Array.from(rows, (_, layer) => flow!.values[layer * flow!.width + at.pos]), { ...direction, by_position: direction.by_position && [direction.by_position[at.pos]] }, units, centre, 1)) : null,
    here: rows.indexOf(rowOfPlace(direction.site!)),
    active,
    among: ready?.components ?? pca.shares.length,
    problem,
  };
});

// Pinned cards are what was seen, not what is shown now.
const pins = signal<readonly { id: number; facts: Facts }[]>([]);
let nextPin = 0;
const pin = (facts: Facts): void => void (pins.value = [{ id: nextPin++, facts }, ...pins.value]);
const unpin = (id: number): void => void (pins.value = pins.value.filter((card) => card.id !== id));

function Card({ title, action, children }: { title: string; action: ComponentChildren; children: ComponentChildren }) {
  return (
    <article class="card">
      <h3>
        <span>{title}</span>
        {action}
      </h3>
      {children}
    </article>
  );
}

function DirectionCard({ facts, action, asking }: { facts: DirectionFacts; action: ComponentChildren; asking: Asking }) {
  const { name, share, pca, along, component, history, centre, units, limit, counts, mark, texts } = facts;
  const most = Math.max(...counts, 1);
  return (
    <Card title={name} action={action}>
      <p>
        {percent(share)} of variance. {component === null && `${madeOf(history)} Measured on `}
        {component !== null && "Made here from "}
        {counted(pca.n_texts, "text")}, {counted(pca.n_tokens, "token")}
        {pca.n_cut > 0 && `, ${counted(pca.n_cut, "text")} cut at the context`}; {pca.left_out.length > 0 && `position ${pca.left_out.join(", ")} left out; `}
        centre: {CENTRES.find(([one]) => one === centre)![1]}.
      </p>
      {pca.warning && <p class="warning">{pca.warning}</p>}
      <figure>
        <svg class="bars" viewBox={`0 0 ${BINS} 20`} preserveAspectRatio="none" role="img" aria-label={`Histogram of the projections of the texts shown, from ${signed(-limit)} to ${signed(limit)} ${unitName(units)}: ${counts.join(", ")}`}>
          {counts.map((n, i) => (
            <rect key={i} x={i + 0.06} width={0.88} y={20 - Math.max(n ? 0.4 : 0.15, (19.5 * n) / most)} height="20" />
          ))}
          {mark !== null && <path d={`M${Math.max(0.2, Math.min(BINS - 0.2, ((mark / limit + 1) / 2) * BINS))} 0V20`} />}
        </svg>
        <figcaption>
          <span>−{rounded(limit)}</span>
          <span>projections of the texts shown</span>
          <span>
            +{rounded(limit)} {unitName(units)}
          </span>
        </figcaption>
      </figure>
      <Asked site={pca.site} along={along} texts={texts} {...asking} />
    </Card>
  );
}

/** How a direction was made, as far as its name does not say it. */
function madeOf(history: DirectionFacts["history"]): string {
  if (!history) return "A sum of several.";
  const moved = history.moved_from ? `It lives at ${history.moved_from} and is read here, where it was not made. ` : "";
  const { kind } = history;
  if (kind === "probe") return `${moved}A probe, ${percent(Number(history.accuracy))} right on held-out texts, ${percent(Number(history.accuracy_shuffled))} with shuffled labels.`;
  if (kind === "contrast") return `${moved}The difference of the means of ${counted(Number(history.n_positive), "token")} and ${history.n_negative}.`;
  if (kind === "pca") return `${moved}A component of the sample texts.`;
  if (kind === "upload") return `${moved}Read from the file ${history.file}.`;
  if (kind === "combination") return `${moved}A sum of several.`;
  return `${moved}Made from weights.`;
}

interface Question {
  path: What["path"];
  ask: string;
  view: View;
}

const QUESTIONS: readonly Question[] = [
  { path: "explain", ask: "What is it about?", view: explanation },
  { path: "causal_check", ask: "Does the model use it?", view: causalCheck },
];

/** What is asked, as an address has it, and what to do when that changes. */
interface Asking {
  ask: string | null;
  put: (ask: string | null) => void;
}

/** What takes a while to know of a direction: it is computed when it is asked for. Without texts it is checked on sample texts. */
export function Asked({ site, along, texts, ask, put }: { site: string; along: readonly Term[]; texts?: readonly string[] } & Asking) {
  const analysis = useAnalysis();
  const { found } = analysis;
  const { path, strength } = readAsked(ask ?? "") ?? { path: null, strength: 2 };
  const compute = (): void => (path ? analysis.ask(path, { site, along, ...(path === "causal_check" && { strength, ...(texts?.length && { texts }) }) }) : analysis.drop());
  useEffect(compute, [site, JSON.stringify(along), ask]);
  const question = QUESTIONS.find((one) => one.path === path);
  return (
    <>
      <p class="doors">
        {QUESTIONS.map((one) => (
          <button key={one.path} type="button" aria-expanded={one === question} onClick={() => put(one === question ? null : one.path)}>
            {one.ask}
          </button>
        ))}
      </p>
      {path === "causal_check" && (
        <p>
          On {texts?.length ? `${counted(texts.length, "text")} of those shown, your own first, ${MOST_CHECKED} at most` : "sample texts"}, at strength{" "}
          <input
            class="typed"
            type="number"
            aria-label="Strength of the check"
            min="0.1"
            max="1000"
            step="any"
            value={strength}
            onChange={({ currentTarget }) => {
              if (!currentTarget.value || !currentTarget.reportValidity()) return;
              put(writeAsked({ path, strength: currentTarget.valueAsNumber }));
            }}
          />{" "}
          standard deviations.
        </p>
      )}
      {question && found && <Status work={found.work} trouble={found.trouble} retry={compute} still={null} />}
      {question && found?.data && <Hosted view={question.view} keys={{ bare: false, data: found.data }} on={{}} />}
    </>
  );
}

function Curve({ rows, curve, here, units }: { rows: string[]; curve: number[]; here: number; units: Units }) {
  const limit = Math.max(...curve.map(Math.abs), 1e-12);
  const x = (i: number): number => 6 + (curve.length > 1 ? (i / (curve.length - 1)) * 268 : 134);
  const y = (value: number): number => 28 - (value / limit) * 22;
  return (
    <figure>
      <svg class="curve" viewBox="0 0 280 56" role="img" aria-label={`Value at every layer: ${rows.map((row, i) => `${row} ${signed(curve[i])}`).join(", ")}`}>
        <path class="axis" d="M0 28H280" />
        <path d={curve.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("")} />
        {curve.map((value, i) => (
          <circle key={i} class={i === here ? "here" : ""} cx={x(i)} cy={y(value)} r={i === here ? 4 : curve.length > 32 ? 1.5 : 2.5}>
            <title>{`${rows[i]} ${valueText(value, units)}`}</title>
          </circle>
        ))}
      </svg>
      <figcaption>
        <span>{rows[0]}</span>
        <span>
          within ±{rounded(limit)} {unitName(units)}
        </span>
        <span>{rows.at(-1)}</span>
      </figcaption>
    </figure>
  );
}

function TokenCard({ facts, action }: { facts: TokenFacts; action: ComponentChildren }) {
  const { piece, pos, value, rank, n, units, label, leftOut, curve, rows, here, active, among, problem, name } = facts;
  const most = active?.length ? Math.abs(active[0].sd) : 1;
  return (
    <Card title={`Token ${pos}, “${visiblePiece(piece)}”`} action={action}>
      <p>
        <b>{valueText(value, units)}</b> along {name}, {leftOut ? "left out of the colours" : `rank ${rank} of ${n} in ${label}`}.
      </p>
      {curve && curve.length > 1 && <Curve rows={rows} curve={curve} here={here} units={units} />}
      <h4>Most active here</h4>
      {active ? (
        <ol class="ranking">
          {active.map(({ component, sd }) => (
            <li key={component}>
              <button type="button" onClick={() => state.chooseComponent(component)} title={`Show PCA ${component}`}>
                <span>PCA {component}</span>
                <i class={sd < 0 ? "negative" : "positive"} style={{ width: `${(100 * Math.abs(sd)) / most}%` }} />
                <span>{signed(sd)} sd</span>
              </button>
            </li>
          ))}
        </ol>
      ) : problem ? (
        <p>
          {problem.words} {problem.again && <button type="button" onClick={activity.retry}>Try again</button>}
        </p>
      ) : (
        <p>Reading {among} components…</p>
      )}
      {active && among < state.nComponents.value && <p>among the first {among} components</p>}
    </Card>
  );
}

/** A pinned card asks for itself. */
function CardOf({ facts, action }: { facts: Facts; action: ComponentChildren }) {
  const [ask, put] = useState<string | null>(null);
  return facts.kind === "token" ? <TokenCard facts={facts} action={action} /> : <DirectionCard facts={facts} action={action} asking={{ ask, put }} />;
}

const PinButton = ({ facts }: { facts: Facts }) => (
  <button type="button" title="Keep this card beside the next" onClick={() => pin(facts)}>
    Pin
  </button>
);

/** What the inspector shows: a frame behind the texts, so that these never wait for it. */
const shown = signal<{ token: TokenFacts | null; direction: DirectionFacts | null }>({ token: null, direction: null });
let waiting = false;
effect(() => {
  state.picture.value;
  state.settings.value;
  state.picked.value;
  river.answer.value;
  activity.answer.value;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() =>
    setTimeout(() => {
      waiting = false;
      shown.value = { token: tokenFacts.peek(), direction: directionFacts.peek() };
    }),
  );
});

export function Inspector() {
  const { token, direction } = shown.value;
  const expanded = open.value === "sheet";
  if (!direction) return <aside class="inspector" aria-label="Inspector" />;
  return (
    <aside class={expanded ? "inspector expanded" : "inspector"} aria-label="Inspector">
      <button type="button" class="handle" aria-expanded={expanded} onClick={() => (open.value = expanded ? null : "sheet")}>
        <span>{token ? `Token ${token.pos}, “${visiblePiece(token.piece)}”, ${valueText(token.value, token.units)}` : direction.name}</span>
        <i aria-hidden="true">{expanded ? "▾" : "▴"}</i>
      </button>
      <div class="cards">
        {token ? (
          <TokenCard facts={token} action={<PinButton facts={token} />} />
        ) : (
          <article class="card hint">
            <p>Click a token, in a text or in its river: its value at every layer and what is most active there open here.</p>
          </article>
        )}
        <DirectionCard facts={direction} action={<PinButton facts={direction} />} asking={{ ask: state.wanted.value.ask, put: (ask) => state.change({ ask }, { push: true }) }} />
        {pins.value.length > 0 && <h2>Pinned</h2>}
        {pins.value.map(({ id, facts }) => (
          <CardOf
            key={id}
            facts={facts}
            action={
              <button type="button" aria-label="Unpin this card" onClick={() => unpin(id)}>
                Unpin
              </button>
            }
          />
        ))}
      </div>
    </aside>
  );
}
