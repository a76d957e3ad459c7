// What edits along a direction do to a model's predictions, beside what chance does: a strip of dots for each edit and kind.

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Tensor } from "../arrays.ts";
import { plain, ticks } from "../numbers.ts";
import type { Palette } from "../shades.ts";
import type { Drawing } from "./files.ts";
import { Word } from "./legend.tsx";
import { oneOf } from "./look.ts";
import type { Pen } from "./pen.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import "./causal_check.css";

interface Payload extends Named {
  measures: string[];
  actions: string[];
  kinds: string[]; // of each vector; the first is the direction
}

interface Chosen {
  measure: string;
}

const SAID: Record<string, string> = { random: "random directions", variance: "as much variance", shuffled: "shuffled labels" };
const CHANCE = ["variance", "shuffled"]; // what the direction is held against
const LEVEL = 0.05; // of p, up to which an effect is called more than chance
const MEASURES: Record<string, string> = { kl: "how far predictions move", loss: "how much the loss grows" };
const [WIDTH, NARROW, RIGHT, TOP, LANE, GAP, BOTTOM] = [680, 480, 24, 8, 16, 18, 28]; // px

interface Strip {
  action: string;
  effect: number;
  lanes: { kind: string; means: number[] }[];
  share: number; // of what chance gives, the direction itself counted, that is as large
  few: boolean; // so few that it could be no smaller
}

/** Means over texts, by edit and kind. */
function stripsOf({ actions, kinds }: Payload, values: Tensor, measure: number): Strip[] {
  const [, , n_vectors, n_texts] = values.shape;
  const meanAt = (action: number, vector: number): number => {
    const at = ((measure * actions.length + action) * n_vectors + vector) * n_texts;
    return values.data.subarray(at, at + n_texts).reduce((sum, value) => sum + value, 0) / n_texts;
  };
  return actions.map((action, a) => {
    const effect = meanAt(a, 0);
    const lanes = Object.keys(SAID)
      .filter((kind) => kinds.includes(kind))
      .map((kind) => ({ kind, means: kinds.flatMap((one, vector) => (one === kind ? [meanAt(a, vector)] : [])) }));
    const chance = lanes.filter(({ kind }) => CHANCE.includes(kind)).map(({ means }) => means);
    const share = Math.max(...chance.map((means) => (1 + means.filter((mean) => Math.abs(mean) >= Math.abs(effect)).length) / (1 + means.length)));
    return { action, effect, lanes, share, few: share > LEVEL && share === Math.max(...chance.map((means) => 1 / (1 + means.length))) };
  });
}

/** Where everything lies in so much room; where that is little, an edit's name stands above its strips. */
function arrange(strips: Strip[], width: number) {
  const above = width < NARROW ? LANE : 0;
  const left = above ? 128 : 190;
  const all = strips.flatMap(({ effect, lanes }) => [effect, ...lanes.flatMap(({ means }) => means)]);
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const across = (value: number): number => left + ((value - low) / (high - low || 1)) * (width - left - RIGHT);
  const tall = strips.map(({ lanes }) => lanes.length * LANE + GAP + above);
  const tops = tall.map((_, i) => TOP + above + tall.slice(0, i).reduce((sum, height) => sum + height, 0));
  const named = (i: number): number => (above ? -LANE / 2 : (strips[i].lanes.length * LANE) / 2); // the middle of an edit's name
  return { across, left, tops, named, height: TOP + tall.reduce((sum, height) => sum + height, 0) + BOTTOM, marks: ticks(low, high || 1, above ? 3 : 6) };
}

function drawingOf(strips: Strip[]): Drawing {
  const { across, left, tops, named, height, marks } = arrange(strips, WIDTH);
  const draw = (pen: Pen, { line, ink, ink2, positive, accent }: Palette): void => {
    for (const value of marks) {
      pen.box(across(value) - 0.5, TOP, 1, height - BOTTOM - TOP, value === 0 ? ink2 : line);
      pen.text(plain(value), across(value), height - BOTTOM + 12, ink2, { align: "center" });
    }
    strips.forEach(({ action, effect, lanes }, i) => {
      pen.text(action, 0, tops[i] + named(i), ink, { face: "sans", bold: true });
      lanes.forEach(({ kind, means }, lane) => {
        const y = tops[i] + lane * LANE + LANE / 2;
        pen.text(SAID[kind], left - 10, y, ink2, { align: "right", face: "sans" });
        for (const mean of means) pen.dot(across(mean), y, 3, positive);
      });
      pen.box(across(effect) - 1.5, tops[i], 3, lanes.length * LANE, accent);
    });
  };
  return { size: [WIDTH, height], draw };
}

const verdict = ({ share, few }: Strip): string => `${few ? "too few others to tell" : share <= LEVEL ? "more than chance" : "no more than chance"} (p ${share.toFixed(2)})`;

function CausalCheck({ payload, arrays, alone, tools, chosen, choose }: Shown<Payload, Chosen, never>) {
  const { measures, settings } = payload;
  const { measure = "kl" } = chosen;
  const number = measures.indexOf(measure);
  const strips = useMemo(() => stripsOf(payload, arrays.values, number), [arrays, number]);
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(WIDTH);
  useLayoutEffect(() => {
    const resized = new ResizeObserver(() => setWidth(Math.min(WIDTH, Math.max(240, place.current!.clientWidth))));
    resized.observe(place.current!);
    return () => resized.disconnect();
  }, []);
  const { across, left, tops, named, height, marks } = arrange(strips, width);
  const n_texts = arrays.values.shape[3];
  const whole = arrays.whole.data.subarray(number * n_texts, (number + 1) * n_texts).reduce((sum, value) => sum + value, 0) / n_texts;
  const caption = `${MEASURES[measure]}, in nats, ${n_texts === 1 ? "of one text" : `mean over ${n_texts} texts`}, at strength ${plain(Number(settings.strength))}`;
  const rows = strips.flatMap((strip) => [[strip.action, "direction", strip.effect, strip.share] as const, ...strip.lanes.flatMap(({ kind, means }) => means.map((mean) => [strip.action, kind, mean, ""] as const))]);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={caption}
      sentence={
        <>
          Show <Word label="Measure" value={measure} options={measures.map((name) => [name, MEASURES[name]] as const)} onChange={(measure) => choose({ measure })} /> in nats
        </>
      }
      notes={[
        "a line is the direction, a dot another one",
        `the whole site's mean: ${plain(whole)}`,
        `added: ${plain(Number(settings.added))}, ${plain(Number(settings.strength))} standard deviations`,
        "of many checks one in twenty looks like more than chance by luck",
      ]}
      drawing={() => drawingOf(strips)}
      table={() => [["action", "kind", "nats", "p"], ...rows]}
    >
      <div class="strips" ref={place}>
        <svg width={width} height={height} role="img" aria-label={`${payload.name}: ${strips.map((strip) => `${strip.action} ${plain(strip.effect)}, ${verdict(strip)}`).join("; ")}`}>
          {marks.map((value) => (
            <g key={value}>
              <path class={value === 0 ? "zero" : ""} d={`M${across(value)} ${TOP}V${height - BOTTOM}`} />
              <text class="mark" x={across(value)} y={height - BOTTOM + 16} text-anchor="middle">
                {plain(value)}
              </text>
            </g>
          ))}
          {strips.map(({ action, effect, lanes }, i) => (
            <g key={action} transform={`translate(0 ${tops[i]})`}>
              <text class="action" x="0" y={named(i) + 4}>
                {action}
              </text>
              {lanes.map(({ kind, means }, lane) => (
                <g key={kind} transform={`translate(0 ${lane * LANE + LANE / 2})`}>
                  <text class="kind" x={left - 10} y="4" text-anchor="end">
                    {SAID[kind]}
                  </text>
                  {means.map((mean, draw) => (
                    <circle key={draw} cx={across(mean)} cy="0" r="3">
                      <title>{`${SAID[kind]}: ${plain(mean)}`}</title>
                    </circle>
                  ))}
                </g>
              ))}
              <rect x={across(effect) - 1.5} y="0" width="3" height={lanes.length * LANE}>
                <title>{`${action}: ${plain(effect)}`}</title>
              </rect>
            </g>
          ))}
        </svg>
        <table>
          <thead>
            <tr>
              <th scope="col">edit</th>
              <th scope="col">nats</th>
              <th scope="col">beside chance</th>
            </tr>
          </thead>
          <tbody>
            {strips.map((strip) => (
              <tr key={strip.action}>
                <th scope="row">{strip.action}</th>
                <td>{plain(strip.effect)}</td>
                <td>{verdict(strip)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Stand>
  );
}

export default present(CausalCheck, ({ measures }) => ({ chosen: { measure: oneOf(...measures) } }));
