// The place Runs: each with how far it is, how it ended, and its result.

import { useEffect, useState } from "preact/hooks";
import { parseOnce, type Named } from "../../views/present.tsx";
import { saveFile } from "../../views/files.ts";
import { Word } from "../../views/legend.tsx";
import { VIEWS } from "../../views/table.ts";
import { Hosted } from "../hosted.tsx";
import { library, me, type Run } from "../library.ts";
import { isSomebody } from "../me.tsx";
import { say } from "../notes.tsx";
import { type Term, wordsOf as wordsOfError } from "../server.ts";
import { Status } from "../status.tsx";
import { act, begin, deleted, goesOn, open, opened, runs, trouble } from "./state.ts";

const NAMES: Record<string, string> = { patch: "Patching", heads: "Head scores", causal_check: "Causal check", steer: "Steering", lens: "Logit lens", graph: "Causal graph", grow: "Grown graph", evaluate: "Whether a graph is right", explain: "Explanation", intervene: "Features changed", feature: "Feature", attention: "Attention" };
const LONGEST = 160; // of what was asked for, as it is shown

const isTerm = (value: unknown): value is Term => typeof value === "object" && value !== null && "of" in value && "weight" in value;

function wordsOf(value: unknown): string {
  if (isTerm(value)) return `${value.weight === 1 ? "" : `${value.weight} `}(${Object.values(value.of).filter((one) => one !== null && typeof one !== "boolean").map(wordsOf).join(" ")})`;
  if (Array.isArray(value)) return value.map(wordsOf).join(value.every(isTerm) ? " + " : "; ");
  if (typeof value === "object" && value !== null) return Object.values(value).map(wordsOf).join(" ");
  return String(value);
}

/** What was asked for, in one line. */
function wordsOfAsked(settings: Run["settings"]): string {
  const said = Object.entries(settings).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length));
  const text = said.map(([name, value]) => `${name.replaceAll("_", " ")} ${wordsOf(value)}`).join(", ");
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

const clock = (time: string): string => new Date(time).toLocaleTimeString();

function when({ state, created, changed }: Run): string {
  const at = new Date(created).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const seconds = (Date.parse(changed) - Date.parse(created)) / 1000;
  return `${state}${state === "done" ? ` in ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : ""} · ${at}`;
}

function How({ run }: { run: Run }) {
  const { progress } = run;
  return (
    <p class="progress" role="status">
      <progress aria-label="Progress" max={progress?.total || 1} value={progress ? progress.done : undefined} />
      <span>{progress ? `${progress.what}: ${progress.done} of ${progress.total}` : "waits for its turn"}</span>
      <button type="button" onClick={() => void act(() => library.stopRun(run.id))}>
        Stop
      </button>
    </p>
  );
}

/** The result of a run, as its view shows it. */
function Result({ id }: { id: number }) {
  const [data, setData] = useState<Uint8Array<ArrayBuffer> | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    library.runResult(id).then(
      (bytes) => setData(bytes),
      (error) => setProblem(wordsOfError(error)),
    );
  }, [id]);
  if (problem) return <p class="problem">{problem}</p>;
  if (!data) return <p>Reading the result…</p>;
  const { view, name } = parseOnce(data).payload as Named & { view: string };
  return (
    <>
      <p class="tools">
        <button type="button" title="For rs.open" onClick={() => say(`${saveFile(new Blob([data]), name, "safetensors")} saved to your downloads; rs.open reads it.`, { seconds: 4 })}>
          Save
        </button>
      </p>
      {VIEWS[view] ? <Hosted view={VIEWS[view]} keys={{ bare: false, data }} on={{}} /> : <p>No view shows {name}; rs.open reads it in Python.</p>}
    </>
  );
}

function Item({ run }: { run: Run }) {
  const { id, kind, settings, log } = run;
  const here = opened.value === id;
  return (
    <li class={here ? "here" : ""}>
      <button type="button" class="title" aria-expanded={here} onClick={() => open(here ? null : id)}>
        {NAMES[kind] ?? kind}
      </button>
      <span class="facts">{when(run)}</span>
      <p>{wordsOfAsked(settings)}</p>
      {goesOn(run) && <How run={run} />}
      {run.state === "failed" && <p class="problem">{log.at(-1)?.[1]}</p>}
      {here && (
        <div class="opened">
          {log.length > 0 && (
            <ol class="log" aria-label="Log">
              {log.map(([time, what]) => (
                <li key={time + what}>
                  <time dateTime={time}>{clock(time)}</time> {what}
                </li>
              ))}
            </ol>
          )}
          {run.state === "done" && <Result key={run.changed} id={id} />}
        </div>
      )}
      <span class="tags">
        {!goesOn(run) && !run.deleted && (
          <button type="button" onClick={() => void act(() => library.startRun(kind, settings))}>
            run again
          </button>
        )}
        {run.deleted ? (
          <button type="button" onClick={() => void act(() => library.restore("runs", id))}>
            restore
          </button>
        ) : (
          !goesOn(run) && (
            <button type="button" onClick={() => void act(() => library.remove("runs", id))}>
              delete
            </button>
          )
        )}
      </span>
    </li>
  );
}

export function Runs() {
  const found = runs.value;
  return (
    <main id="main" class="saved runs" tabIndex={-1}>
      <div class="sentence" role="group" aria-label="What is shown">
        <span>
          Show{" "}
          <Word
            label="Which"
            value={deleted.value ? "deleted" : "mine"}
            options={[
              ["mine", "my runs"],
              ["deleted", "those I deleted"],
            ]}
            onChange={(which) => (deleted.value = which === "deleted")}
          />
        </span>
        <small>Patching, head scores, causal checks, steering and graphs that you ask for are kept here, with their results.</small>
      </div>
      <Status work={null} trouble={trouble.value} retry={() => void begin()} still={null} />
      {me.value && !me.value.name && (
        <div class="panel">
          <h2>Whose runs?</h2>
          <p>
            Runs have an owner.{" "}
            <button type="button" class="solid" onClick={isSomebody}>
              Say who you are
            </button>
          </p>
        </div>
      )}
      {found?.length === 0 && (
        <div class="panel">
          <h2>No runs {deleted.value ? "were deleted" : "yet"}</h2>
          {!deleted.value && (
            <p>
              Ask for one on <a href="/patch">Patch</a>, <a href="/heads">Heads</a> or <a href="/">Stream</a>; what takes long goes on when you leave the page, once “Go on in Runs” was clicked.
            </p>
          )}
        </div>
      )}
      <ol class="kept">
        {found?.map((run) => (
          <Item key={run.id} run={run} />
        ))}
      </ol>
    </main>
  );
}
