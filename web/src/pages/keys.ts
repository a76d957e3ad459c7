// Keys of the page. None fires while typing, nor with Ctrl, Meta or Alt held (but for Ctrl-K).

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

export interface Command {
  id: string;
  label: string;
  key?: string; // as KeyboardEvent.key
  run: () => void;
}

/** What lies over the page now; Esc closes it. */
export const open = signal<"palette" | "help" | "picker" | "mixer" | "besider" | "save" | "me" | "sheet" | null>(null);

/** Closes the panel that asks for it; once that is gone, what was opened since stays. */
export function useClose(): () => void {
  const here = useRef(true);
  useEffect(() => () => void (here.current = false), []);
  return () => {
    if (here.current) open.value = null;
  };
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"));
}

/** Listens on the window before anything else does, so that no view keeps a page's key. */
export function listen(commands: () => readonly Command[], onEscape: () => void): () => void {
  const down = (event: KeyboardEvent): void => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      open.value = open.value === "palette" ? null : "palette";
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      if (!event.isComposing) onEscape();
      return;
    }
    if ((open.value !== null && open.value !== "sheet") || isTyping(event.target)) return;
    const command = commands().find(({ key }) => key === event.key);
    if (!command) return;
    event.preventDefault();
    command.run();
  };
  addEventListener("keydown", down, true);
  return () => removeEventListener("keydown", down, true);
}
