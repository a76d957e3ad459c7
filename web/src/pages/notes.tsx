import { signal } from "@preact/signals";

export interface Note {
  id: number;
  text: string;
  copy?: string; // shown to be copied by hand, where the clipboard was refused
  link?: { href: string; text: string };
  act?: { text: string; run: () => void }; // what undoes it
}

export const notes = signal<Note[]>([]);
let next = 0;

/** Says something until it is dismissed, by the number that is answered. */
export function tell(text: string, more: Omit<Note, "id" | "text"> = {}): number {
  const id = next++;
  notes.value = [...notes.value.filter((note) => note.text !== text), { id, text, ...more }];
  return id;
}

/** Says something in passing; `seconds` 0 stays until it is dismissed. */
export function say(text: string, { seconds = 0, ...more }: Omit<Note, "id" | "text"> & { seconds?: number } = {}): void {
  const id = tell(text, more);
  if (seconds) setTimeout(() => dismiss(id), seconds * 1000);
}

export function dismiss(id?: number): boolean {
  const before = notes.value;
  notes.value = id === undefined ? [] : before.filter((note) => note.id !== id);
  return notes.value.length < before.length;
}

export function Notes() {
  return (
    <div class="notes" role="status" aria-live="polite">
      {notes.value.map(({ id, text, copy, link, act }) => (
        <div class="note" key={id}>
          <p>
            {text}
            {link && <a href={link.href}>{link.text}</a>}
            {act && (
              <button type="button" class="act" onClick={() => (dismiss(id), act.run())}>
                {act.text}
              </button>
            )}
          </p>
          <button type="button" aria-label="Dismiss this note" onClick={() => dismiss(id)}>
            ×
          </button>
          {copy !== undefined && <textarea readOnly aria-label="Text to copy" rows={Math.min(8, copy.split("\n").length)} value={copy} ref={(el) => el?.select()} />}
        </div>
      ))}
    </div>
  );
}

export async function copyText(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`, { seconds: 2.5 });
  } catch {
    say(`The browser does not let this page write to the clipboard. ${what}, to copy by hand:`, { copy: text });
  }
}
