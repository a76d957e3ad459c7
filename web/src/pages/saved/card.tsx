// The card of a saved direction: what people say of it, what it was, what lies near, where it is listed.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { saveFile } from "../../views/files.ts";
import { type Description, isShown, keptOf, library, type SavedCard as Card, type Saved } from "../library.ts";
import { isSomebody } from "../me.tsx";
import { copyText, say } from "../notes.tsx";
import { wordsOf } from "../server.ts";
import { Asked } from "../stream/inspector.tsx";
import { placeOf } from "./saved.tsx";
import { act, askCard, bringBack, drop, lists, mine, retype, seek, sought } from "./state.ts";

/** A line that is written and sent. */
function Line({ label, value = "", send, close }: { label: string; value?: string; send: (text: string) => Promise<boolean>; close?: () => void }) {
  const [text, setText] = useState(value);
  return (
    <form
      class="line-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (isSomebody()) void send(text).then((done) => done && (setText(""), close?.()));
      }}
    >
      <input aria-label={label} placeholder={label} value={text} onInput={({ currentTarget }) => setText(currentTarget.value)} />
      <button type="submit" disabled={!text.trim()}>
        Send
      </button>
    </form>
  );
}

/** What people wrote, with a link of its own; it is scrolled to and marked where the address leads to it. */
function Written({ id, children }: { id: string; children: ComponentChildren }) {
  const el = useRef<HTMLLIElement>(null);
  const here = sought.value.at === id;
  useEffect(() => void (here && el.current!.scrollIntoView({ block: "center" })), [here]);
  return (
    <li ref={el} id={id} class={here ? "here" : ""}>
      {children}
      <a href={`#${id}`} aria-label="Link to this" title="A link to this">
        #
      </a>
    </li>
  );
}

function Words({ one }: { one: Description }) {
  const [editing, setEditing] = useState(false);
  const vote = (value: 1 | -1): void => {
    if (isSomebody()) void act(() => library.vote(one.id, one.my_vote === value ? 0 : value));
  };
  return (
    <Written id={`description-${one.id}`}>
      <span class="votes">
        <button type="button" aria-pressed={one.my_vote === 1} aria-label="Vote for it" onClick={() => vote(1)}>
          ▲
        </button>
        <b>{one.score}</b>
        <button type="button" aria-pressed={one.my_vote === -1} aria-label="Vote against it" onClick={() => vote(-1)}>
          ▼
        </button>
      </span>
      {editing ? (
        <Line label="What it means" value={one.text} send={(text) => act(() => library.reword(one.id, text))} close={() => setEditing(false)} />
      ) : (
        <p>
          {one.text} <small>{one.origin ?? one.author}</small>
          {mine(one.author) && (
            <>
              {" "}
              <button type="button" onClick={() => setEditing(true)}>
                reword
              </button>{" "}
              <button type="button" onClick={() => void drop("descriptions", one.id)}>
                delete
              </button>
            </>
          )}
        </p>
      )}
    </Written>
  );
}

export function SavedCard({ card }: { card: Card }) {
  const { direction, descriptions, comments, revisions } = card;
  const own = mine(direction.owner);
  const shown = isShown(direction);
  const [near, setNear] = useState<{ direction: Saved; cosine: number }[]>([]);
  useEffect(() => {
    const controller = new AbortController();
    library.nearest(direction.id, controller.signal).then(setNear, () => {}); // beside the card's own, which says what is wrong
    return () => controller.abort();
  }, [direction.id, direction.revision]);
  const remove = (): void =>
    void drop("directions", direction.id, direction.name).then((done) => done && seek({ id: null }));
  const download = async (): Promise<void> => {
    try {
      say(`${saveFile(await library.file(direction.id), direction.name, "safetensors")} saved to your downloads; rs.load_direction reads it.`, { seconds: 4 });
    } catch (error) {
      say(wordsOf(error));
    }
  };
  const el = useRef<HTMLElement>(null);
  useEffect(() => void (sought.peek().at || el.current!.scrollIntoView({ block: "nearest" })), []); // where the window is narrow, it is below the list
  return (
    <section class="closer card" ref={el} aria-label={direction.name}>
      <h2>
        {own && !direction.deleted ? (
          <input class="typed" aria-label="Name" value={direction.name} onChange={({ currentTarget }) => retype(currentTarget, direction.name, (name) => library.change(direction.id, { name }))} />
        ) : (
          <span>{direction.name}</span>
        )}
        <span>
          <button type="button" aria-label="Close" onClick={() => seek({ id: null })}>
            ×
          </button>
        </span>
      </h2>
      <p>
        {direction.site}, {direction.width} numbers, by {direction.owner}
        {direction.origin && `, from ${direction.origin}`}, {new Date(direction.changed).toLocaleString()}
      </p>
      {direction.deleted ? (
        <p class="doors">
          <button type="button" onClick={() => void bringBack("directions", direction.id, direction.name)}>
            Bring it back
          </button>
        </p>
      ) : (
        <p class="doors">
          {shown && <a href={placeOf(direction)}>Show it on Stream</a>}
          <button type="button" onClick={() => void copyText(`${location.origin}/saved?id=${direction.id}`, "Link")}>
            Link
          </button>
          <button type="button" onClick={() => void download()}>
            File
          </button>
          {own && (
            <button type="button" onClick={remove}>
              Delete
            </button>
          )}
        </p>
      )}
      {!shown && <p>It is of all heads of {direction.site} side by side, and Stream shows one head at a time: in Python, edits take it.</p>}
      {own ? (
        <label class="tagged">
          Tags{" "}
          <input
            class="typed"
            value={direction.tags.join(", ")}
            placeholder="with commas between"
            onChange={({ currentTarget }) => void act(() => library.change(direction.id, { tags: currentTarget.value.split(",").map((tag) => tag.trim()).filter(Boolean) }))}
          />
        </label>
      ) : (
        direction.tags.length > 0 && <p>{direction.tags.join(", ")}</p>
      )}
      {shown && !direction.deleted && <Asked site={direction.site} along={[{ weight: 1, of: keptOf(direction) }]} ask={sought.value.ask} put={askCard} />}
      <h4>What it means</h4>
      <ol class="words">
        {descriptions.map((one) => (
          <Words key={one.id} one={one} />
        ))}
      </ol>
      <Line label="Say what it means" send={(text) => act(() => library.describe(direction.id, text))} />
      <h4>Comments</h4>
      <ol class="words">
        {comments.map((one) => (
          <Written key={one.id} id={`comment-${one.id}`}>
            <p>
              {one.text} <small>{one.origin ?? one.author}</small>{" "}
              {mine(one.author) && (
                <button type="button" onClick={() => void drop("comments", one.id)}>
                  delete
                </button>
              )}
            </p>
          </Written>
        ))}
      </ol>
      <Line label="Remark on it" send={(text) => act(() => library.comment(direction.id, text))} />
      <h4>Lists</h4>
      <p class="doors">
        {lists.value
          .filter((list) => mine(list.owner) || list.directions.includes(direction.id))
          .map((list) => {
            const listed = list.directions.includes(direction.id);
            const changed = listed ? list.directions.filter((id) => id !== direction.id) : [...list.directions, direction.id];
            return (
              <button key={list.id} type="button" aria-pressed={listed} disabled={!mine(list.owner)} onClick={() => void act(() => library.changeList(list.id, { directions: changed }))}>
                {list.name}
              </button>
            );
          })}
        {lists.value.length === 0 && <span>none yet</span>}
      </p>
      {revisions.length > 1 && (
        <>
          <h4>Revisions</h4>
          <ol class="words">
            {revisions.map((one) => (
              <li key={one.number}>
                <p>
                  <a href={shown ? placeOf({ ...direction, revision: one.number }) : undefined}>
                    {one.number}: {one.name}
                  </a>{" "}
                  <small>{new Date(one.created).toLocaleString()}</small>
                </p>
              </li>
            ))}
          </ol>
        </>
      )}
      {near.length > 0 && (
        <>
          <h4>Nearest saved directions</h4>
          <ol class="words">
            {near.map(({ direction: other, cosine }) => (
              <li key={other.id}>
                <p>
                  <button type="button" onClick={() => seek({ id: other.id })}>
                    {other.name}
                  </button>{" "}
                  <small>
                    cosine {cosine.toFixed(2).replace("-0.00", "0.00").replace("-", "−")}, {other.site}, {other.owner}’s
                  </small>
                </p>
              </li>
            ))}
          </ol>
        </>
      )}
    </section>
  );
}
