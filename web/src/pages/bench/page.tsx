// What a bench page is: prompts and a sentence that say what is asked for, the result's view, and what is picked closer.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Hosted } from "../hosted.tsx";
import { model } from "../session.ts";
import { Status, useLate } from "../status.tsx";
import { type Bench, type Card, type Fields, same } from "./bench.ts";

/** A text of the address. It is asked for when it is left, or at Enter; with Shift, Enter begins a line. */
export function Prompt({ bench, field, label }: { bench: Bench; field: string; label: string }) {
  const value = bench.fields.value[field];
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const ask = (): void => bench.change({ [field]: text });
  return (
    <label class="prompt">
      <span>{label}</span>
      <textarea
        rows={Math.min(8, Math.max(1, text.split("\n").length))}
        value={text}
        spellcheck={false}
        onInput={({ currentTarget }) => setText(currentTarget.value)}
        onBlur={() => text !== value && ask()}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          ask();
        }}
      />
    </label>
  );
}

/** A word or number of a sentence that is typed. */
export function Typed({ bench, field, label, title }: { bench: Bench; field: string; label: string; title?: string }) {
  const value = bench.fields.value[field];
  return <input class="typed" aria-label={label} title={title} value={value} spellcheck={false} onChange={({ currentTarget }) => bench.change({ [field]: currentTarget.value })} />;
}

export interface Example {
  name: string;
  fields: Fields;
}

interface PageProps {
  bench: Bench;
  examples: readonly Example[];
  prompts: ComponentChildren;
  sentence: ComponentChildren;
  children?: ComponentChildren; // between what is asked for and its answer
}

export function BenchPage({ bench, examples, prompts, sentence, children }: PageProps) {
  const { see } = bench;
  const answer = bench.answer.value;
  const late = useLate(bench.work.value !== null, 100);
  const { chosen = {}, picked = null, scale = { mode: "shared" } } = bench.look.value;
  const tools = {
    first: answer?.apart ? [] : [["Link", "Copy a link to what is shown", bench.link]],
    model: model.value?.name ?? null,
    cells: answer?.asked != null,
    last: !answer?.whole ? [] : [...(answer.asked ? [["HTML", "Save one file that opens with no network", bench.saveHtml]] : []), ...(answer.asked && bench.kind.kept ? [["Keep", "Keep it among your runs, with what is put on it", bench.keep]] : []), ...(bench.kind.writeFile ? [] : [["Save", "Save the result, for rs.open and for Open", bench.saveResult]])],
  };
  return (
    <>
      <main id="main" class="bench" tabIndex={-1}>
        <div class="asked">
          {prompts}
          <div class="sentence" role="group" aria-label="What is asked for">
            {sentence}
          </div>
          <p class="doors">
            {examples.length > 0 && <span>Examples:</span>}
            {examples.map(({ name, fields }) => (
              <button key={name} type="button" onClick={() => bench.change({ ...bench.usual, ...fields })}>
                {name}
              </button>
            ))}
            <OpenFile bench={bench} />
          </p>
        </div>
        <Status work={bench.work.value} trouble={bench.trouble.value} retry={bench.retry} still={answer?.payload.name ?? null} />
        {children}
        {answer?.apart && (
          <p class="warning" role="note">
            {answer.apart.says}
          </p>
        )}
        <div class={(late && bench.work.value && answer?.whole) || bench.trouble.value ? "picture old" : "picture"} aria-busy={bench.work.value !== null}>
          {answer && model.value && (
            <Hosted
              view={bench.viewOf(answer)}
              keys={{ bare: false, data: answer.data, chosen, picked, scale, tools }}
              on={{ chosen: (value) => see("chosen", value), picked: (value) => see("picked", value), scale: (value) => see("scale", value) }}
            />
          )}
        </div>
      </main>
      <Inspector bench={bench} />
    </>
  );
}

/** What is picked, closer, below what was pinned before. */
function Inspector({ bench }: { bench: Bench }) {
  const pinned = bench.pinned.value;
  const cards = bench.cards.value.filter((card) => !pinned.some((one) => same(one, card)));
  const empty = !pinned.length && !cards.length;
  return (
    <aside class={empty ? "inspector closers empty" : "inspector closers"} aria-label="Inspector">
      {empty && <p>What is picked in the view is shown here closer.</p>}
      {pinned.map((card) => (
        <CardOf key={JSON.stringify(card.body)} card={card} pin={null} close={() => bench.unpin(card)} />
      ))}
      {cards.map((card) => (
        <CardOf key={card.path} card={card} pin={card.data && (() => bench.pin(card))} close={() => bench.see("picked", null)} />
      ))}
    </aside>
  );
}

function CardOf({ card, pin, close }: { card: Card; pin: (() => void) | null; close: () => void }) {
  return (
    <section class="closer" aria-label={card.title}>
      <h2>
        {card.title}
        <span>
          {pin && (
            <button type="button" title="Keep it beside what is picked next" onClick={pin}>
              Pin
            </button>
          )}
          <button type="button" aria-label="Close" onClick={close}>
            ×
          </button>
        </span>
      </h2>
      {card.onward && (
        <p class="doors">
          {card.onward.map(([text, to]) =>
            typeof to === "string" ? (
              <a key={text} href={to}>
                {text}
              </a>
            ) : (
              <button key={text} type="button" onClick={to}>
                {text}
              </button>
            ),
          )}
        </p>
      )}
      {card.problem !== null && <p class="problem">{card.problem}</p>}
      {card.data && <Hosted view={card.view} keys={{ bare: false, data: card.data, chosen: card.chosen }} on={{}} />}
    </section>
  );
}

function OpenFile({ bench }: { bench: Bench }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button type="button" class="open" title="A result that was saved here or in Python" onClick={() => input.current!.click()}>
        Open a saved result
      </button>
      <input
        ref={input}
        type="file"
        hidden
        aria-label="A saved result"
        onChange={async ({ currentTarget }) => {
          const [file] = currentTarget.files ?? [];
          if (file) await bench.openFile(file);
          currentTarget.value = "";
        }}
      />
    </>
  );
}
