// The place Patch: what of one prompt's run, put into another's, moves the answer.

import { useEffect } from "preact/hooks";
import { signal } from "@preact/signals";
import ablation from "../../views/ablation.tsx";
import comparison from "../../views/comparison.tsx";
import { Word } from "../../views/legend.tsx";
import patching from "../../views/patching.tsx";
import { visiblePiece } from "../../views/reading.ts";
import { isAbort, server } from "../server.ts";
import { model } from "../session.ts";
import { Bench, type Fields } from "./bench.ts";
import { readRoles } from "./roles.ts";
import { BenchPage, type Example, Prompt, Typed } from "./page.tsx";

const OF_HEADS = ["z", "q", "k", "v", "pattern"];
const SITES = ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", ...OF_HEADS];
const TASKS = [
  ["", "these two prompts"],
  ["ioi", "pairs of indirect objects"],
  ["name", "pairs of full names"],
  ["agreement", "pairs of verbs that agree"],
  ["greater_than", "pairs of years"],
] as const;

/** Prompts that two names make, each of which is one token. */
function askWhom([correct, wrong]: readonly string[]): Fields {
  const [other, one] = [correct, wrong].map((name) => name.trim());
  const ask = (giver: string): string => `When ${one} and ${other} went to the shops, ${giver} gave the bag to`;
  return { clean: ask(one), corrupted: ask(other), correct, wrong };
}

export const bench = new Bench({
  views: { patching, comparison, ablation },
  fields: { ...askWhom([" Mary", " John"]), roles: "", task: "", n: "20", site: "resid_pre", direction: "denoise" },
  ask({ task, n, site, direction, clean, corrupted, correct, wrong, roles }) {
    const pairs = task ? { task, n: Number(n) } : { clean, corrupted, correct, wrong, roles: readRoles(roles) };
    return { path: "patch", body: { ...pairs, site, direction } };
  },
  suit: ({ names }) => (names.length === 2 ? askWhom(names) : {}),
  prompt({ task, clean }, { asked, payload: { pieces } }, { pair }) {
    if ((asked && !task) || !pieces) return { text: clean, called: "in the clean prompt" };
    const number = typeof pair === "number" ? pair : 0;
    return { text: pieces[number].slice(Number(model.value!.prepends_bos)).join(""), called: `in the clean prompt of pair ${number}` };
  },
});

const EXAMPLES: readonly Example[] = [
  { name: "Which head moved the name?", fields: { site: "z" } },
  { name: "Where the name stands", fields: {} },
  { name: "Indirect objects by role", fields: { task: "ioi" } },
  { name: "Alex Hart", fields: { clean: "Her name was Alex Hart. Tomorrow at lunch time Alex", corrupted: "Her name was Alex Reed. Tomorrow at lunch time Alex", correct: " Hart", wrong: " Reed", site: "z" } },
];

const aligned = signal<string[][] | null>(null); // the tokens of both prompts

/** Both prompts, token by token, those that differ marked. */
function TwoPrompts() {
  const { clean, corrupted, roles } = bench.fields.value;
  useEffect(() => {
    const controller = new AbortController();
    server.tokens([clean, corrupted], controller.signal).then(
      ({ texts }) => (aligned.value = texts.map(({ pieces }) => pieces)),
      (error) => isAbort(error) || (aligned.value = null), // what is wrong with a prompt is said of the whole request
    );
    return () => controller.abort();
  }, [clean, corrupted]);
  const found = aligned.value;
  if (!found) return null;
  const [a, b] = found;
  return (
    <div class="aligned">
      <table aria-label="Both prompts, token by token">
        {[a, b].map((row, i) => (
          <tr key={i}>
            <th scope="row">{i ? "corrupted" : "clean"}</th>
            {row.map((piece, at) => (
              <td key={at} class={a[at] === b[at] ? "" : "differs"}>
                {visiblePiece(piece)}
              </td>
            ))}
          </tr>
        ))}
      </table>
      {a.length !== b.length && !roles && (
        <p class="problem">
          The prompts have {a.length} and {b.length} tokens; patching needs equally many, or roles.
        </p>
      )}
    </div>
  );
}

export function Patch() {
  const { task, site, direction, roles, correct } = bench.fields.value;
  return (
    <BenchPage
      bench={bench}
      examples={EXAMPLES}
      prompts={
        !task && (
          <>
            <Prompt bench={bench} field="clean" label="Clean" />
            <Prompt bench={bench} field="corrupted" label="Corrupted" />
          </>
        )
      }
      sentence={
        <>
          <span>
            Patch <Word label="Site" value={site} options={SITES.map((site) => [site, site] as const)} onChange={(site) => bench.change({ site })} />
          </span>
          <span>
            of{" "}
            <Word
              label="Direction"
              value={direction}
              options={[
                ["denoise", "the clean run into the corrupted one"],
                ["noise", "the corrupted run into the clean one"],
              ]}
              onChange={(direction) => bench.change({ direction })}
            />
          </span>
          <span>
            for {task && <Typed bench={bench} field="n" label="How many pairs" />} <Word label="Pairs" value={task} options={TASKS} onChange={(task) => bench.change({ task })} />
          </span>
          {!task && (
            <span>
              at{" "}
              <Word
                label="Positions"
                value={roles && "roles"}
                options={[
                  ["", OF_HEADS.includes(site) ? "all positions together" : "every position"],
                  ["roles", "the roles"],
                ]}
                onChange={(by) => bench.change({ roles: by && `answer=${correct}, end=-1` })}
              />{" "}
              {roles && <Typed bench={bench} field="roles" label="Roles" title="Names, each with its word, space included, or its position; where the corrupted prompt has another, after a stroke: S2= John/ Mary, end=-1" />}
            </span>
          )}
          {!task && (
            <span>
              and measure the logit of <Typed bench={bench} field="correct" label="Right answer" /> less that of <Typed bench={bench} field="wrong" label="Wrong answer" />
            </span>
          )}
        </>
      }
    >
      {!task && correct === bench.usual.correct && model.value && model.value.names.length < 2 && (
        <p class="problem">No two names are one token each of this model: write prompts and answers of your own.</p>
      )}
      {!task && <TwoPrompts />}
    </BenchPage>
  );
}
