import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Command } from "./keys.ts";
import { open } from "./keys.ts";

const MOST = 60;

function matches({ label, key }: Command, words: readonly string[]): boolean {
  const text = `${label} ${key ?? ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Commands, sites and components by what is typed. */
export function Palette({ commands, entries }: { commands: readonly Command[]; entries: (query: string) => Command[] }) {
  const [query, setQuery] = useState("");
  const [active, setActive] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const dialog = useRef<HTMLDialogElement>(null);
  // Before the next key arrives: what is typed right after the command that opens it belongs here.
  useLayoutEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    dialog.current!.showModal();
    input.current!.focus();
    return () => before?.focus?.({ preventScroll: true });
  }, []);
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const here = entries(query);
  const found = [...(words.length ? here : []), ...commands.filter((command) => matches(command, words)), ...(words.length ? [] : here)].slice(0, MOST);
  const at = Math.min(active, found.length - 1);
  const close = (): void => void (open.value = null);
  const run = (command: Command | undefined): void => {
    if (!command) return;
    dialog.current!.close();
    close();
    command.run();
  };
  useEffect(() => document.getElementById(`found-${at}`)?.scrollIntoView({ block: "nearest" }), [at]);
  return (
    <dialog class="palette" ref={dialog} aria-label="Search or type a command" onClose={close} onClick={({ target, currentTarget }) => target === currentTarget && close()}>
      <input
        ref={input}
        type="text"
        role="combobox"
        aria-expanded="true"
        aria-controls="found"
        aria-activedescendant={found.length ? `found-${at}` : undefined}
        aria-label="Search or type a command"
        placeholder="A command, a site (resid_post 3), a component (PCA 7)"
        spellcheck={false}
        autocomplete="off"
        value={query}
        onInput={({ currentTarget }) => {
          setQuery(currentTarget.value);
          setActive(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setActive(Math.min(found.length - 1, at + 1));
          else if (event.key === "ArrowUp") setActive(Math.max(0, at - 1));
          else if (event.key === "Enter") run(found[at]);
          else return;
          event.preventDefault();
        }}
      />
      <ul id="found" role="listbox" aria-label="Found">
        {found.map((command, i) => (
          <li key={command.id} id={`found-${i}`} role="option" aria-selected={i === at} onPointerMove={() => setActive(i)} onClick={() => run(command)}>
            <span>{command.label}</span>
            {command.key && <kbd>{command.key}</kbd>}
          </li>
        ))}
      </ul>
      {found.length === 0 && <p>Nothing is called “{query}”. Try a site, “PCA 7”, or a word of a command.</p>}
    </dialog>
  );
}
