// The place Lens: how the prediction forms, layer by layer.

import logitLens from "../../views/logit_lens.tsx";
import nextTokens from "../../views/next_tokens.tsx";
import vocabulary from "../../views/vocabulary.tsx";
import { Word } from "../../views/legend.tsx";
import { Bench } from "./bench.ts";
import { BenchPage, type Example, Prompt, Typed } from "./page.tsx";

const VALUES = [
  ["prob", "probability"],
  ["logit", "logit"],
  ["rank", "rank"],
  ["entropy", "entropy"],
  ["kl", "KL to the final prediction"],
] as const;
const TARGETS = [
  ["own", "each cell's best token"],
  ["final", "the final prediction"],
  ["next", "the token that follows"],
  ["chosen", "the token"],
] as const;
const OF_A_TOKEN = ["prob", "logit", "rank"];

export const bench = new Bench({
  views: { logit_lens: logitLens, next_tokens: nextTokens, vocabulary },
  fields: { text: "When John and Mary went to the shops, John gave the bag to", value: "prob", target: "own", token: " Mary", norm: "own", sub: "" },
  ask({ text, value, target, token, norm, sub }) {
    const whose = !OF_A_TOKEN.includes(value) ? {} : target === "chosen" ? { chosen: token } : { target };
    return { path: "lens", body: { text, value, norm, sub_blocks: sub !== "", ...whose } };
  },
  suit: ({ names: [token = " Mary"] }) => ({ token }),
  prompt: ({ text }) => ({ text, called: "in the prompt" }),
});

const EXAMPLES: readonly Example[] = [
  { name: "Indirect object", fields: {} },
  { name: "Alex Hart", fields: { text: "Her name was Alex Hart. Tomorrow at lunch time Alex", target: "chosen", token: " Hart" } },
  { name: "Once upon a time", fields: { text: "Once upon a time, there was a little girl named Lily. She liked to play in the park.", target: "next" } },
];

export function Lens() {
  const { value, target, norm, sub } = bench.fields.value;
  const targets = TARGETS.filter(([name]) => value !== "rank" || name !== "own");
  return (
    <BenchPage
      bench={bench}
      examples={EXAMPLES}
      prompts={<Prompt bench={bench} field="text" label="Prompt" />}
      sentence={
        <>
          <span>
            Read after every layer the{" "}
            <Word label="Value" value={value} options={VALUES} onChange={(value) => bench.change(value === "rank" && target === "own" ? { value, target: "final" } : { value })} />
          </span>
          {OF_A_TOKEN.includes(value) && (
            <span>
              of <Word label="Target" value={target} options={targets} onChange={(target) => bench.change({ target })} /> {target === "chosen" && <Typed bench={bench} field="token" label="Token" />}
            </span>
          )}
          <span>
            with the norm of{" "}
            <Word
              label="Norm"
              value={norm}
              options={[
                ["own", "each stream"],
                ["final", "the last stream"],
              ]}
              onChange={(norm) => bench.change({ norm })}
            />
          </span>
          <span>
            <Word
              label="Sub-blocks"
              value={sub}
              options={[
                ["", "between layers"],
                ["1", "between layers and before each MLP"],
              ]}
              onChange={(sub) => bench.change({ sub })}
            />
          </span>
        </>
      }
    />
  );
}
