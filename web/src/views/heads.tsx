// Scores of heads: one as a heat map of layer by head, all beside each other, or one against another.

import type { Tensor } from "../arrays.ts";
import { plain, rounded, within } from "../numbers.ts";
import { type Drawing, drawBeside } from "./files.ts";
import { type Heat, heatDrawing, stepsOf } from "./heat.ts";
import { HeatMap, type HeatMapProps } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { widthOf } from "./pen.ts";
import { type Head, oneHeadOf, oneOf } from "./look.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";
import type { Scale } from "./reading.ts";
import { Scatter, scatterDrawing } from "./scatter.tsx";
import type { Tip } from "./tooltip.ts";
import "./heads.css";

interface Payload extends Named {
  scores: string[];
}

interface Chosen {
  score: string; // one of them, or ALL
  against: string; // another, or ""
}

const ALL = "all";
const ROOM = 280; // px of a small map in a file

/** "previous token" */
export const spoken = (name: string): string => name.replaceAll("_", " ");

class Scores {
  readonly n_layers: number;
  readonly n_heads: number;

  constructor(
    readonly payload: Payload,
    private readonly means: Tensor,
    private readonly errors: Tensor,
  ) {
    [, this.n_layers, this.n_heads] = means.shape;
  }

  private of({ data }: Tensor, score: string): Float32Array {
    const size = this.n_layers * this.n_heads;
    const at = this.payload.scores.indexOf(score);
    return data.subarray(at * size, (at + 1) * size);
  }

  mean = (score: string): Float32Array => this.of(this.means, score);
  error = (score: string): Float32Array => this.of(this.errors, score);
  meaning = (score: string): string => (this.payload.settings.meaning as Record<string, string> | undefined)?.[score] ?? "";
  name = (i: number): string => `${Math.floor(i / this.n_heads)}.${i % this.n_heads}`;
  text = (score: string, i: number): string => plain(this.mean(score)[i]) + (Number.isNaN(this.error(score)[i]) ? "" : ` ± ${plain(this.error(score)[i])}`);
  tip = (scores: readonly string[], i: number): Tip => ({
    piece: `head ${this.name(i)}`,
    value: this.text(scores[0], i),
    facts: [spoken(scores[0]), ...scores.slice(1).map((score) => `${this.text(score, i)} ${spoken(score)}`)],
  });

  range = (score: string, scale: Scale) => rangeOf(this.mean(score), scale, score === "entropy" ? "nats" : "");

  heat(score: string, limit: number, small: boolean): Heat {
    const values = this.mean(score);
    return {
      rows: Array.from({ length: this.n_layers }, (_, layer) => ({ text: String(layer) })),
      columns: Array.from({ length: this.n_heads }, (_, head) => ({ text: String(head) })),
      steps: stepsOf(values, limit),
      upward: true,
      words: small ? undefined : ({ row, column }) => within(values[row * this.n_heads + column], limit),
      wordWidth: widthOf(within(-limit, limit)) + 4,
      width: small ? [6, 36] : [16, 56],
      height: small ? Math.max(6, Math.min(16, 160 / this.n_layers)) : 24,
    };
  }
}

/** Maps beside each other, for a file. */
export const besideDrawing = (maps: readonly { title: string; heat: Heat }[]): Drawing => drawBeside(maps.map(({ title, heat }) => ({ title, ...heatDrawing(heat, ROOM) })));

/** All scores beside each other, for a file. */
function multiplesDrawing(scores: Scores, heatOf: (score: string) => Heat): Drawing {
  return besideDrawing(
    scores.payload.scores.map((score) => {
      const { limit, signed } = scores.range(score, { mode: "shared" });
      return { title: `${spoken(score)}, ${signed ? "±" : "0 to "}${rounded(limit)}`, heat: heatOf(score) };
    }),
  );
}

function Heads({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Head>) {
  const scores = new Scores(payload, arrays.values, arrays.errors);
  const { n_heads } = scores;
  const { score = ALL, against = "" } = chosen;
  const at = picked && picked.layer * n_heads + picked.head;
  const range = score === ALL ? null : scores.range(score, scale);
  const pickHead = (i: number): void => pick(i === at ? null : { layer: Math.floor(i / n_heads), head: i % n_heads });
  const propsOf = (score: string, small: boolean): HeatMapProps => ({
    ...scores.heat(score, scores.range(score, small ? { mode: "shared" } : scale).limit, small),
    label: `${spoken(score)} of every head, layer by head`,
    picked: picked ? [{ row: picked.layer, column: picked.head }] : [],
    number: ({ row, column }) => plain(scores.mean(score)[row * n_heads + column]),
    tip: ({ row, column }) => scores.tip([score], row * n_heads + column),
    onPick: ({ row, column }) => pickHead(row * n_heads + column),
  });
  const drawing = (): Drawing => {
    if (score === ALL) return multiplesDrawing(scores, (one) => propsOf(one, true));
    if (against) return scatterDrawing({ x: scores.mean(against), y: scores.mean(score), names: [spoken(against), spoken(score)], origin: 0, label: scores.name });
    return heatDrawing(propsOf(score, false));
  };
  const names = payload.scores.map((name) => [name, spoken(name)] as const);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={score === ALL ? "All scores of every head" : `${spoken(score)} of every head${against && ` against ${spoken(against)}`}`}
      sentence={
        <>
          Show <Word label="Score" value={score} options={[[ALL, "all scores"], ...names]} onChange={(score) => choose({ score })} /> of every head
          {score !== ALL && (
            <>
              {" "}
              against <Word label="Other score" value={against} options={[["", "nothing"], ...names.filter(([name]) => name !== score)]} onChange={(against) => choose({ against })} />
            </>
          )}
        </>
      }
      range={range && !against ? { ...range, scale, each: null, onScale } : undefined}
      notes={[score === ALL ? "each score in its own range" : scores.meaning(score), against && score !== ALL ? null : "layers upwards, heads across"]}
      drawing={drawing}
      table={() => [
        ["score", "layer", "head", "value", "error"],
        ...payload.scores.flatMap((name) => Array.from(scores.mean(name), (value, i) => [name, ...scores.name(i).split("."), value, scores.error(name)[i]])),
      ]}
    >
      {score === ALL ? (
        <div class="multiples">
          {payload.scores.map((name) => {
            const { limit, signed } = scores.range(name, { mode: "shared" });
            return (
              <section key={name}>
                <h2>
                  <button type="button" title={scores.meaning(name)} onClick={() => choose({ score: name, against: "" })}>
                    {spoken(name)}
                  </button>{" "}
                  <small>
                    {signed ? "±" : "0 to "}
                    {rounded(limit)}
                  </small>
                </h2>
                <HeatMap {...propsOf(name, true)} />
              </section>
            );
          })}
        </div>
      ) : against ? (
        <Scatter x={scores.mean(against)} y={scores.mean(score)} names={[spoken(against), spoken(score)]} origin={0} label={scores.name} tip={(i) => scores.tip([score, against], i)} picked={at} onPick={pickHead} />
      ) : (
        <HeatMap {...propsOf(score, false)} />
      )}
      {alone && at !== null && (
        <section class="head-card" aria-live="polite">
          <h2>Head {scores.name(at)}</h2>
          <dl>
            {payload.scores.map((name) => (
              <div key={name}>
                <dt>{spoken(name)}</dt>
                <dd>{scores.text(name, at)}</dd>
                <dd>{scores.meaning(name)}</dd>
              </div>
            ))}
          </dl>
        </section>
      )}
    </Stand>
  );
}

export default present(Heads, ({ scores }, { values: { shape } }) => ({
  chosen: { score: oneOf(ALL, ...scores), against: oneOf("", ...scores) },
  picked: oneHeadOf(shape[1], shape[2]),
  onward: (head) => ({ heads: [head] }),
}));
