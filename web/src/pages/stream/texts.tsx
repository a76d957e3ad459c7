import { useMemo, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { writeArrays } from "../../arrays.ts";
import { counted } from "../../numbers.ts";
import colouredText from "../../views/coloured_text.tsx";
import { Word } from "../../views/legend.tsx";
import river from "../../views/river.tsx";
import type { Payload, Picked } from "../../views/reading.ts";
import { wordsOf } from "../server.ts";
import { Hosted } from "../hosted.tsx";
import { MOST, rowOfPlace, SAMPLES, splitTexts } from "./address.ts";
import { sayAligned } from "./align.ts";
import * as followers from "./followers.ts";
import * as state from "./state.ts";

/** A text that is being written; it outlives errors and closing. */
export const draft = signal("");

/** A box for a text of one's own. */
export function AddText() {
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const box = useRef<HTMLTextAreaElement>(null);
  const add = async (): Promise<void> => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await state.addText(draft.value);
      draft.value = "";
      box.current?.blur();
    } catch (error) {
      setProblem(error instanceof Error ? `${error.message} ${(error as { hint?: string }).hint ?? ""}`.trim() : String(error));
      box.current?.focus();
    }
    setBusy(false);
  };
  const text = draft.value;
  return (
    <form
      class="add"
      onSubmit={(event) => {
        event.preventDefault();
        void add();
      }}
    >
      <textarea
        id="add"
        ref={box}
        rows={Math.min(10, Math.max(text ? 2 : 1, text.split("\n").length))}
        placeholder="Add a text of your own"
        aria-label="A text of your own"
        aria-describedby={problem ? "add-problem" : undefined}
        aria-invalid={problem !== null}
        value={text}
        onInput={({ currentTarget }) => {
          draft.value = currentTarget.value;
          setProblem(null);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            void add();
          } else if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      <button type="submit" class="solid" disabled={busy}>
        {busy ? "Reading…" : "Add"}
      </button>
      {text && !problem && <p class="hint">Enter adds it, with Shift it begins a line</p>}
      {!text && <AddFile say={setProblem} />}
      {problem && (
        <p class="problem" id="add-problem" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}

/** Texts of a file, as `rs.demo.texts` and `--texts` are: .json, .jsonl, or plain text. */
function AddFile({ say }: { say: (problem: string | null) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const take = async (file: File): Promise<void> => {
    try {
      await state.addTexts(splitTexts(await file.text(), file.name));
      say(null);
    } catch (error) {
      say(`${file.name}: ${wordsOf(error)}`);
    }
  };
  return (
    <p class="hint">
      <button type="button" onClick={() => input.current!.click()}>
        or a file of several
      </button>
      <input
        ref={input}
        type="file"
        hidden
        aria-label="A file of texts"
        onChange={({ currentTarget }) => {
          const [file] = currentTarget.files ?? [];
          currentTarget.value = "";
          if (file) void take(file);
        }}
      />
    </p>
  );
}

/** The river under the text that is selected. */
function River({ text, limit }: { text: state.ShownText; limit: number }) {
  const { value: answer, old, problem } = followers.river.answer.value;
  const { units, centre } = state.settings.value;
  const { value: direction } = state.direction;
  const fits = answer?.text === text.text;
  // The river that is there keeps its numbers until the new one has come: then data and range change together.
  const kept = useRef<{ data: Uint8Array | null; limit: number }>({ data: null, limit });
  const fresh = useMemo(() => {
    if (old || !fits || !direction) return null;
    const payload: Payload = {
      ...direction,
      view: "river",
      pieces: [text.pieces],
      special: [text.special],
      rows: answer.rows,
      here: answer.rows.indexOf(rowOfPlace(direction.site!)),
    };
    return writeArrays({ payload, arrays: { values: { shape: [1, answer.rows.length, answer.width], data: answer.values } } });
  }, [answer, direction, text.pieces, old]);
  if (fresh || !fits) kept.current = { data: fresh, limit };
  const { data } = kept.current;
  const range = kept.current.limit;
  const scale = useMemo(() => ({ mode: "fixed", limit: range }), [range]);
  const picked = state.picked.value;
  const at = useMemo(() => picked && { text: 0, pos: picked.pos }, [picked?.pos]);
  if (problem)
    return (
      <p class="problem">
        The river could not be read. {problem.words} {problem.again && <button type="button" onClick={followers.river.retry}>Try again</button>}
      </p>
    );
  if (!data) return <div class="river-place">{old && "Reading every layer…"}</div>;
  return (
    <div class={old ? "river-place old" : "river-place"}>
      <Hosted view={river} keys={{ data, units, centre, scale, picked: at }} on={{ picked: (to: Picked) => state.pick(text.key, to?.pos ?? null) }} />
    </div>
  );
}

/** A text coloured along a direction. */
function Coloured({ under, strip, limit, at }: { under: state.ShownText; strip: state.Strip; limit: number; at: number | null }) {
  const { units, centre } = state.settings.value;
  const { direction: payload, values, label, text, match } = strip;
  const pos = at === null || !match ? at : match[at];
  const pick = (to: number): number | null => (!match ? to : match.includes(to) ? match.indexOf(to) : null);
  const data = useMemo(
    () =>
      writeArrays({
        payload: { ...payload, view: "coloured_text", pieces: [text.pieces], special: [text.special] } satisfies Payload,
        arrays: { values: { shape: [1, text.pieces.length], data: values } },
      }),
    [text.pieces],
  );
  const name = label ? `${under.label}, ${label}` : under.label;
  const labels = useMemo(() => [name], [name]);
  const scale = useMemo(() => ({ mode: "fixed", limit }), [limit]);
  const picked = useMemo(() => (pos === null ? null : { text: 0, pos }), [pos]);
  return <Hosted view={colouredText} keys={{ data, labels, values, payload, units, centre, scale, picked }} on={{ picked: (to: Picked) => state.pick(under.key, to && pick(to.pos)) }} />;
}

/** Another text, whose values are shown less this one's. */
function Against({ text }: { text: state.ShownText }) {
  const others = state.picture.value!.texts.filter(({ key, problem }) => key !== text.key && !problem);
  if (!others.length) return <small>no other text is shown, to compare with</small>;
  const { against } = state.wanted.value;
  return (
    <span>
      compared with{" "}
      <Word
        label="Compared with"
        value={others.some(({ key }) => key === against) ? against! : ""}
        options={[["", "nothing"], ...others.map(({ key, label }) => [key, label] as const)]}
        onChange={(key) => state.change({ against: key || null })}
      />
    </span>
  );
}

function TextRow({ text, index }: { text: state.ShownText; index: number }) {
  const limit = state.limits.value[index];
  const chosen = state.chosen.value === index;
  const pos = state.picked.value?.text === index ? state.picked.value.pos : null;
  const own = text.own ? Number(text.key.slice(4)) : null;
  const strips = text.problem ? [] : state.stripsOf(index);
  const other = strips.find(({ match }) => match);
  return (
    <section class={chosen ? "text chosen" : "text"} data-text={text.key} aria-label={text.label}>
      <h2>
        <button type="button" aria-pressed={chosen} disabled={!!text.problem} onClick={() => state.pick(text.key, null)}>
          {text.label}
        </button>
        {!text.problem && <span>{counted(text.pieces.length, "token")}</span>}
        {chosen && <Against text={text} />}
        {own !== null && (
          <button type="button" class="keep" title="Keep it on the server, pinned: it stands here each time" onClick={() => void state.keepText(text.text)}>
            keep
          </button>
        )}
        {own !== null && (
          <button type="button" class="remove" aria-label={`Remove ${text.label}`} onClick={() => state.removeText(own)}>
            remove
          </button>
        )}
      </h2>
      {text.problem && (
        <p class="problem">
          {text.problem} <q>{text.text.slice(0, 120)}</q>
        </p>
      )}
      {other && <p class="aligned">{sayAligned(text.pieces, other.text.pieces, other.match!)}</p>}
      {strips.map((strip, i) => (
        <div key={`${i} of ${strips.length}, ${strip.match && strip.text.key} without ${strip.direction.left_out}`} class={strips.length > 1 ? "strip-of several" : "strip-of"}>
          {strip.label && <h3 class={strip.here ? "here" : ""}>{strip.label}</h3>}
          <Coloured under={text} strip={strip} limit={limit} at={pos} />
        </div>
      ))}
      {chosen && !text.problem && !state.wanted.value.every && (
        <div class={strips.length > 1 ? "strip-of several" : ""}>
          {strips.length > 1 && <h3 class="here">{state.picture.value!.name}, every layer</h3>}
          <River text={text} limit={limit} />
        </div>
      )}
    </section>
  );
}

export function Texts() {
  const { value: picture } = state.picture;
  const total = state.total.value ?? 0;
  const shown = Math.min(state.wanted.value.count, total);
  if (!picture) return null;
  const { order } = state.wanted.value;
  return (
    <>
      {total > 1 && (
        <p class="order">
          sample texts{" "}
          <Word
            label="Order of the texts"
            value={typeof order === "number" ? "drawn" : order}
            options={[
              ["given", "in their order"],
              ["drawn", "drawn at random"],
              ["strongest", "by how strongly they excite it"],
            ]}
            onChange={(order) => state.chooseOrder(order === "drawn" ? 0 : order)}
          />
          {typeof order === "number" && (
            <button type="button" onClick={() => state.chooseOrder(order + 1)}>
              draw again
            </button>
          )}
          {order === "strongest" && (
            <button type="button" title="By what is shown now" onClick={() => state.chooseOrder("strongest")}>
              order again
            </button>
          )}
        </p>
      )}
      {picture.texts.length === 0 && (
        <div class="panel">
          <h2>There is no text to show</h2>
          <p>The server has no sample texts. Add one of your own in the box above: its tokens are coloured at once.</p>
        </div>
      )}
      <div class="texts">
        {picture.texts.map((text, i) => (
          <TextRow key={text.own ? `own ${text.text}` : text.key} text={text} index={i} />
        ))}
      </div>
      {shown < Math.min(total, MOST) && (
        <p class="more">
          <button type="button" onClick={() => state.change({ count: shown + SAMPLES })}>
            Show {Math.min(SAMPLES, total - shown)} more
          </button>
          <span>
            {shown} of {total} sample texts
          </span>
        </p>
      )}
    </>
  );
}

/** While nothing is known yet: lines where the text will be. */
export function Skeleton() {
  const lines = [92, 78, 96, 40, 0, 88, 95, 61, 0, 97, 72, 85];
  return (
    <div class="skeleton" aria-hidden="true">
      {lines.map((width, i) => (
        <i key={i} style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}
