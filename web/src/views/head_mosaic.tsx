// One score of every head of several models, side by side in one range of colours.

import { plain, within } from "../numbers.ts";
import type { Drawing } from "./files.ts";
import { type Heat, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { besideDrawing, spoken } from "./heads.tsx";
import { Word } from "./legend.tsx";
import { widthOf } from "./pen.ts";
import { allOf, either, fieldsOf, oneHeadOf, oneOf } from "./look.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";
import "./heads.css";

interface Payload extends Named {
  models: string[];
  shapes: [n_layers: number, n_heads: number][];
  scores: string[];
  settings: Named["settings"] & { meaning?: Record<string, string> };
}

interface Chosen {
  score: string;
}

interface Head {
  model: number;
  layer: number;
  head: number;
}

function HeadMosaic({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Head>) {
  const { models, shapes, scores, settings } = payload;
  const { score = scores[0] } = chosen;
  const [, , n_layers, n_heads] = arrays.values.shape;
  const at = scores.indexOf(score);
  const maps = shapes.map(([layers, heads], model) => {
    const start = (model * scores.length + at) * n_layers * n_heads;
    return Float32Array.from({ length: layers * heads }, (_, i) => arrays.values.data[start + Math.floor(i / heads) * n_heads + (i % heads)]);
  });
  const range = rangeOf(Float32Array.from(maps.flatMap((map) => [...map])), scale, score === "entropy" ? "nats" : "");
  const heatOf = (model: number): Heat => {
    const [layers, heads] = shapes[model];
    return {
      rows: Array.from({ length: layers }, (_, layer) => ({ text: String(layer) })),
      columns: Array.from({ length: heads }, (_, head) => ({ text: String(head) })),
      steps: stepsOf(maps[model], range.limit),
      upward: true,
      words: ({ row, column }) => within(maps[model][row * heads + column], range.limit),
      wordWidth: widthOf(within(-range.limit, range.limit)) + 4,
      width: [8, 44],
      height: Math.max(8, Math.min(20, 240 / layers)),
    };
  };
  const caption = `${spoken(score)} of every head of ${models.length} models`;
  const drawing = (): Drawing => besideDrawing(models.map((title, model) => ({ title, heat: heatOf(model) })));
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={caption}
      sentence={
        <>
          Show <Word label="Score" value={score} options={scores.map((name) => [name, spoken(name)] as const)} onChange={(score) => choose({ score })} /> of every head
        </>
      }
      range={{ ...range, scale, each: null, onScale }}
      notes={[settings.meaning?.[score] ?? null, "layers upwards, heads across"]}
      drawing={drawing}
      table={() => [["model", "score", "layer", "head", "value"], ...models.flatMap((name, model) => Array.from(maps[model], (value, i) => [name, score, Math.floor(i / shapes[model][1]), i % shapes[model][1], value]))]}
    >
      <div class="multiples">
        {models.map((name, model) => {
          const valueAt = (row: number, column: number): string => plain(maps[model][row * shapes[model][1] + column]);
          const is = (row: number, column: number): boolean => picked?.model === model && picked.layer === row && picked.head === column;
          return (
            <section key={model}>
              <h2>{name}</h2>
              <HeatMap
                {...heatOf(model)}
                label={`${spoken(score)} of every head of ${name}`}
                picked={picked?.model === model ? [{ row: picked.layer, column: picked.head }] : []}
                number={({ row, column }) => valueAt(row, column)}
                tip={({ row, column }) => ({ piece: `head ${row}.${column}`, value: valueAt(row, column), facts: [name, spoken(score)] })}
                onPick={({ row, column }) => pick(is(row, column) ? null : { model, layer: row, head: column })}
              />
            </section>
          );
        })}
      </div>
    </Stand>
  );
}

export default present(HeadMosaic, ({ models, shapes, scores }) => ({
  chosen: { score: oneOf(...scores) },
  picked: either(...shapes.map(([n_layers, n_heads], model) => allOf(fieldsOf({ model: oneOf(model) }), oneHeadOf(n_layers, n_heads)))),
  onward: ({ model, layer, head }) => ({ heads: [{ layer, head, model: models[model] }] }),
}));
