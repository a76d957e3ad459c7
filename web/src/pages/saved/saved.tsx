// The place Saved: directions, lists and texts that people keep.

import { useEffect, useRef, useState } from "preact/hooks";
import { counted } from "../../numbers.ts";
import { saveFile } from "../../views/files.ts";
import { Word } from "../../views/legend.tsx";
import { keptOf, library, type Saved as Direction } from "../library.ts";
import { isSomebody } from "../me.tsx";
import { say } from "../notes.tsx";
import { wordsOf } from "../server.ts";
import { model } from "../session.ts";
import { Status } from "../status.tsx";
import { writeFragment } from "../stream/address.ts";
import { SavedCard } from "./card.tsx";
import { act, begin, bringBack, card, deletedLists, directions, drop, lists, load, mine, more, retype, seek, type Sought, sought, TABS, texts, trouble } from "./state.ts";

/** Where a saved direction is shown. */
export const placeOf = (direction: Direction): string => `/?${new URLSearchParams({ site: direction.site, along: JSON.stringify([[1, keptOf(direction)]]) })}`;

export function Saved() {
  const { tab } = sought.value;
  return (
    <>
      <main id="main" class="saved" tabIndex={-1}>
        <div class="tabs" role="tablist" aria-label="What is kept">
          {TABS.map((name) => (
            <button key={name} type="button" role="tab" aria-selected={tab === name} onClick={() => seek({ tab: name, id: null })}>
              {name}
            </button>
          ))}
          <Files />
        </div>
        <Status work={null} trouble={trouble.value} retry={() => (model.value ? void load() : void begin())} still={null} />
        {tab === "directions" && <Directions />}
        {tab === "lists" && <Lists />}
        {tab === "texts" && <Texts />}
      </main>
      <aside class={card.value ? "inspector closers expanded" : "inspector closers"} aria-label="Inspector">
        {card.value && <SavedCard key={card.value.direction.id} card={card.value} />}
      </aside>
    </>
  );
}

/** Everything as one file, out and in; and a vector from a file. */
function Files() {
  const input = useRef<HTMLInputElement>(null);
  const vector = useRef<HTMLInputElement>(null);
  const [site, setSite] = useState("");
  const take = (field: HTMLInputElement, use: (file: File) => Promise<unknown>): void => {
    const [file] = field.files ?? [];
    field.value = "";
    if (file) void use(file);
  };
  const bring = (file: File): Promise<boolean> =>
    act(async () => {
      const { n_directions, n_lists, n_texts, n_votes_left } = await library.import(file);
      const left = n_votes_left ? ` ${counted(n_votes_left, "vote")} stayed behind: everybody votes here anew.` : "";
      say(`Brought ${counted(n_directions, "direction")}, ${counted(n_lists, "list")} and ${counted(n_texts, "text")}; what was here already was left as it is.${left}`, { seconds: 6 });
    });
  return (
    <div class="tools">
      <button
        type="button"
        title="Everybody's directions and lists and your texts, as one file"
        onClick={() =>
          library.export().then(
            (blob) => say(`${saveFile(blob, `${model.value!.name} library`, "safetensors")} saved to your downloads.`, { seconds: 4 }),
            (error) => say(wordsOf(error)),
          )
        }
      >
        Export
      </button>
      <button type="button" title="What an export holds becomes yours; whose it was is kept" onClick={() => isSomebody() && input.current!.click()}>
        Import
      </button>
      <input ref={input} type="file" hidden aria-label="An exported library" onChange={({ currentTarget }) => take(currentTarget, bring)} />
      <label class="upload">
        <button type="button" title="A direction's file, or a bare vector as .json or .npy once its site is said" onClick={() => isSomebody() && vector.current!.click()}>
          Upload
        </button>{" "}
        at <input class="typed" aria-label="Site of a bare vector" placeholder="its site" value={site} onInput={({ currentTarget }) => setSite(currentTarget.value.trim())} />
      </label>
      <input
        ref={vector}
        type="file"
        hidden
        aria-label="A direction's file"
        onChange={({ currentTarget }) => take(currentTarget, (file) => act(async () => seek({ id: (await library.upload(file, { site, name: file.name.replace(/\.[^.]*$/, "") })).id })))}
      />
    </div>
  );
}

function Directions() {
  const { words, whose, site, tag, list, id } = sought.value;
  const found = directions.value;
  const listed = lists.value.find((one) => one.id === list);
  const move = (at: number, by: number): void => {
    const order = [...listed!.directions];
    order.splice(at + by, 0, ...order.splice(at, 1));
    void act(() => library.changeList(listed!.id, { directions: order }));
  };
  const sites = [...new Set(found?.found.map((one) => one.site))].sort();
  return (
    <>
      <div class="sentence" role="group" aria-label="What is looked for">
        <span>
          Show{" "}
          <Word
            label="Whose"
            value={whose}
            options={[
              ["everybody", "everybody's directions"],
              ["mine", "my directions"],
              ["deleted", "what I deleted"],
            ]}
            onChange={(whose) => seek({ whose })}
          />
        </span>
        <span>
          at <Word label="Site" value={site} options={[["", "any site"], ...[...new Set([...(site ? [site] : []), ...sites])].map((one) => [one, one] as const)]} onChange={(site) => seek({ site })} />
        </span>
        <span>
          in <Word label="List" value={String(list ?? "")} options={[["", "any list"], ...lists.value.map((one) => [String(one.id), `${one.name}, ${one.owner}'s`] as const)]} onChange={(one) => seek({ list: one ? Number(one) : null })} />
        </span>
        <span>
          with <input class="typed" id="words" aria-label="Words" placeholder="any words" value={words} spellcheck={false} onChange={({ currentTarget }) => seek({ words: currentTarget.value })} />
        </span>
        {tag && (
          <span>
            tagged {tag}{" "}
            <button type="button" aria-label="Of any tag" onClick={() => seek({ tag: "" })}>
              ×
            </button>
          </span>
        )}
      </div>
      {found && (
        <p class="count">
          {counted(found.found.length, "direction")}
          {found.total > found.found.length && ` of ${found.total}${list === null ? ", the last changed first" : ""}`}
        </p>
      )}
      {found?.found.length === 0 && (
        <div class="panel">
          <h2>Nothing is kept here yet</h2>
          <p>
            On the page <a href="/">Stream</a>, <kbd>s</kbd> saves the direction that is shown: with a name, a description and tags, for everybody here to find.
          </p>
        </div>
      )}
      <ol class="kept">
        {found?.found.map((one) => (
          <li key={one.id} class={one.id === id ? "here" : ""}>
            <button type="button" class="title" aria-expanded={one.id === id} onClick={() => seek({ id: one.id === id ? null : one.id })}>
              {one.name}
            </button>
            <span class="facts">
              {one.site} · {one.owner}
              {one.origin && `, from ${one.origin}`}
              {one.revision > 0 && ` · revision ${one.revision}`}
            </span>
            {one.description && (
              <p>
                {one.description.text} <small>{one.description.score > 0 && `+${one.description.score}`}</small>
              </p>
            )}
            {one.tags.length > 0 && (
              <span class="tags">
                {one.tags.map((name) => (
                  <button key={name} type="button" onClick={() => seek({ tag: name })}>
                    {name}
                  </button>
                ))}
              </span>
            )}
            {listed && mine(listed.owner) && (
              <span class="tags">
                <button type="button" aria-label={`${one.name} up`} disabled={listed.directions[0] === one.id} onClick={() => move(listed.directions.indexOf(one.id), -1)}>
                  up
                </button>
                <button type="button" aria-label={`${one.name} down`} disabled={listed.directions.at(-1) === one.id} onClick={() => move(listed.directions.indexOf(one.id), 1)}>
                  down
                </button>
              </span>
            )}
          </li>
        ))}
      </ol>
      {found && found.found.length < Math.min(found.total, 1000) && (
        <p class="more">
          <button type="button" onClick={more}>
            Show more
          </button>
        </p>
      )}
    </>
  );
}

/** Whose lists or texts are looked for; of directions the sentence says it. */
function Whose({ options }: { options: readonly (readonly [Sought["whose"], string])[] }) {
  const { whose } = sought.value;
  return (
    <div class="sentence" role="group" aria-label="What is looked for">
      <span>
        Show <Word label="Whose" value={options.some(([one]) => one === whose) ? whose : options[0][0]} options={options} onChange={(whose) => seek({ whose })} />
      </span>
    </div>
  );
}

function Lists() {
  const [name, setName] = useState("");
  const { whose } = sought.value;
  const found = whose === "deleted" ? deletedLists.value : lists.value.filter(({ owner }) => whose === "everybody" || mine(owner));
  return (
    <>
      <form
        class="add"
        onSubmit={(event) => {
          event.preventDefault();
          if (isSomebody()) void act(() => library.addList(name, [])).then((done) => done && setName(""));
        }}
      >
        <input aria-label="Name of a new list" placeholder="Begin a list" value={name} onInput={({ currentTarget }) => setName(currentTarget.value)} />
        <button type="submit" class="solid" disabled={!name.trim()}>
          Begin
        </button>
      </form>
      <Whose
        options={[
          ["everybody", "everybody's lists"],
          ["mine", "my lists"],
          ["deleted", "what I deleted"],
        ]}
      />
      <ol class="kept">
        {found.map((one) => (
          <li key={one.id}>
            <button type="button" class="title" disabled={!!one.deleted} onClick={() => seek({ tab: "directions", list: one.id, whose: "everybody" })}>
              {one.name}
            </button>
            <span class="facts">
              {counted(one.directions.length, "direction")} · {one.owner}
            </span>
            {mine(one.owner) && (
              <span class="tags">
                {one.deleted ? (
                  <button type="button" onClick={() => void bringBack("lists", one.id, one.name)}>
                    bring it back
                  </button>
                ) : (
                  <>
                    <label>
                      called <input class="typed" aria-label={`Name of ${one.name}`} value={one.name} onChange={({ currentTarget }) => retype(currentTarget, one.name, (name) => library.changeList(one.id, { name }))} />
                    </label>
                    <button type="button" onClick={() => void drop("lists", one.id, one.name)}>
                      delete
                    </button>
                  </>
                )}
              </span>
            )}
          </li>
        ))}
      </ol>
      {found.length === 0 && <p class="count">{whose === "deleted" ? "Nothing that you deleted." : "No list yet. A direction's card puts it into lists."}</p>}
    </>
  );
}

function Texts() {
  const deleted = sought.value.whose === "deleted";
  return (
    <>
      <Whose
        options={[
          ["mine", "my texts"],
          ["deleted", "what I deleted"],
        ]}
      />
      <p class="count">
        Your texts. Pinned ones stand on the page <a href="/">Stream</a> each time it opens.
      </p>
      <ol class="kept">
        {texts.value.map((one) => (
          <li key={one.id}>
            <input
              class="typed"
              aria-label="Name of the text"
              placeholder="unnamed"
              value={one.name ?? ""}
              disabled={deleted}
              onChange={({ currentTarget }) => retype(currentTarget, one.name ?? "", (name) => library.changeText(one.id, { name: name || null }))}
            />
            <p class="own">{one.text}</p>
            <span class="tags">
              {deleted ? (
                <button type="button" onClick={() => void bringBack("my_texts", one.id, one.name)}>
                  bring it back
                </button>
              ) : (
                <>
                  <ToStream text={one.text} />
                  <button type="button" aria-pressed={one.pinned} onClick={() => void act(() => library.changeText(one.id, { pinned: !one.pinned }))}>
                    {one.pinned ? "unpin" : "pin"}
                  </button>
                  <button type="button" onClick={() => void drop("my_texts", one.id, one.name)}>
                    delete
                  </button>
                </>
              )}
            </span>
          </li>
        ))}
      </ol>
      {texts.value.length === 0 && <p class="count">{deleted ? "Nothing that you deleted." : "None yet: on Stream, “keep” beside a text of yours keeps it."}</p>}
    </>
  );
}

/** A link that opens Stream with a text, which it holds. */
function ToStream({ text }: { text: string }) {
  const [fragment, setFragment] = useState("");
  useEffect(() => void writeFragment([text]).then(setFragment), [text]);
  return <a href={`/?text=own.0${fragment}`}>show it on Stream</a>;
}
