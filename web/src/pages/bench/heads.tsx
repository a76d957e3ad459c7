// The place Heads: what every head does by its scores, and where one that is picked looks.

import attention from "../../views/attention.tsx";
import attribution from "../../views/attribution.tsx";
import composition from "../../views/composition.tsx";
import headMosaic from "../../views/head_mosaic.tsx";
import heads from "../../views/heads.tsx";
import { Word } from "../../views/legend.tsx";
import singularVectors from "../../views/singular_vectors.tsx";
import { Bench } from "./bench.ts";
import { BenchPage, Prompt, Typed } from "./page.tsx";

export const bench = new Bench({
  views: { heads, head_mosaic: headMosaic, composition, attribution, attention, singular_vectors: singularVectors },
  fields: { sequences: "8", length: "50", seed: "0", read: "embed", text: "When John and Mary went to the shops, John gave the bag to" },
  ask: ({ sequences, length, seed, read }) => ({ path: "heads", body: { n_sequences: Number(sequences), n_tokens: Number(length), seed: Number(seed), read } }),
  prompt: ({ text }) => ({ text, called: "in the prompt" }),
});

export function Heads() {
  const { read } = bench.fields.value;
  return (
    <BenchPage
      bench={bench}
      examples={[]}
      prompts={<Prompt bench={bench} field="text" label="Prompt" />}
      sentence={
        <>
          <span>
            Score every head on <Typed bench={bench} field="sequences" label="Sequences" /> sequences of <Typed bench={bench} field="length" label="Tokens" /> random tokens said twice,
          </span>
          <span>
            drawn from seed <Typed bench={bench} field="seed" label="Seed" />
          </span>
          <span>
            and copying from{" "}
            <Word
              label="Read"
              value={read}
              options={[
                ["embed", "the embedding"],
                ["layer0", "the stream after layer 0"],
              ]}
              onChange={(read) => bench.change({ read })}
            />
          </span>
          <small>A click on a head shows where it looks in the prompt, and what its weights copy.</small>
        </>
      }
    />
  );
}
