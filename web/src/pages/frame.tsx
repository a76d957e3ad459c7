// The frame around every place: its header, the places, search, help, theme, notes; and what is shown when drawing fails.

import { Component, type ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { type Command, listen, open } from "./keys.ts";
import { Me } from "./me.tsx";
import { dismiss, Notes, say } from "./notes.tsx";
import { Palette } from "./palette.tsx";
import { place, PLACES } from "./places.ts";
import { model, theme } from "./session.ts";

const dark = matchMedia("(prefers-color-scheme: dark)");

const shade = (): "light" | "dark" => theme.value ?? (dark.matches ? "dark" : "light");

async function toggleFullScreen(): Promise<void> {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen();
  } catch {
    say("The browser does not let this page fill the screen.", { seconds: 4 });
  }
}

const FRAME_COMMANDS: Command[] = [
  { id: "search", label: "Search", key: "/", run: () => (open.value = "palette") },
  { id: "theme", label: "Change between light and dark", run: () => (theme.value = shade() === "dark" ? "light" : "dark") },
  { id: "fullscreen", label: "Full screen", key: "f", run: () => void toggleFullScreen() },
  { id: "help", label: "Keys", key: "?", run: () => (open.value = "help") },
];

function Help({ commands }: { commands: readonly Command[] }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => dialog.current!.showModal(), []);
  const close = (): void => void (open.value = null);
  return (
    <dialog class="help" ref={dialog} aria-labelledby="help-title" onClose={close} onClick={({ target, currentTarget }) => target === currentTarget && close()}>
      <h2 id="help-title">Keys</h2>
      <dl>
        {[...commands.filter(({ key }) => key), { id: "esc", label: "Close what is open", key: "Esc" }, { id: "k", label: "Search, even while typing", key: "Ctrl K" }].map(({ id, label, key }) => (
          <div key={id}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{label}</dd>
          </div>
        ))}
      </dl>
      <p>In a text, a river or a map: arrow keys, Home, End and the page keys go from place to place, Enter picks one, with Shift beside what is picked; plus and minus zoom a map.</p>
      <button type="button" class="solid" onClick={close}>
        Close
      </button>
    </dialog>
  );
}

/** Shows what went wrong in drawing, instead of nothing. */
class Guard extends Component<{ children: ComponentChildren }, { error: Error | null }> {
  override state = { error: null as Error | null };
  static override getDerivedStateFromError = (error: Error) => ({ error });
  override componentDidCatch(error: Error): void {
    console.error(error);
  }
  override render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    return (
      <main class="crash">
        <div class="panel trouble" role="alert">
          <h2>This page could not be drawn.</h2>
          <p>It is a mistake of Residscope, not yours. The address still says what you were looking at.</p>
          <pre>{error.stack ?? String(error)}</pre>
          <p>
            <button type="button" class="solid" onClick={() => location.reload()}>
              Load the page again
            </button>{" "}
            <a href={location.pathname}>Start afresh</a>
          </p>
        </div>
      </main>
    );
  }
}

export function Frame() {
  const commands = [...place.commands, ...FRAME_COMMANDS];
  const facts = model.value;
  useEffect(() => listen(() => commands, () => (open.value === "palette" || open.value === "help" ? undefined : open.value ? void (open.value = null) : void (dismiss() || place.leave?.()))), []);
  useEffect(() => {
    if (theme.value) document.documentElement.dataset.theme = theme.value;
    else delete document.documentElement.dataset.theme;
  }, [theme.value]);
  useEffect(() => void (document.title = facts ? `${place.name} · ${facts.name} · Residscope` : "Residscope"), [facts]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to the view
      </a>
      <header>
        <strong>Residscope</strong>
        {facts && (
          <span class="chip" title={`${facts.family}, ${facts.n_parameters.toLocaleString("en-US")} parameters, context ${facts.n_ctx}`}>
            <b>{facts.name}</b>
            <span>
              {facts.n_layers} × {facts.d_model}
            </span>
            <span>{facts.dtype}</span>
            <span>{facts.device}</span>
          </span>
        )}
        <button type="button" class="search" aria-keyshortcuts="/ Control+K" onClick={() => (open.value = "palette")}>
          <span>Search or type a command</span>
          <kbd>Ctrl K</kbd>
        </button>
        <Me />
        <button type="button" class="chip" aria-label={`Theme: ${shade()}. Change it.`} onClick={FRAME_COMMANDS[1].run}>
          {shade()}
        </button>
        <button type="button" class="chip" aria-label="Keys" onClick={() => (open.value = "help")}>
          ?
        </button>
      </header>
      <nav aria-label="Places">
        {PLACES.map(({ name, paths }) => (
          <a key={name} class={name === place.name ? "here" : ""} aria-current={name === place.name ? "page" : undefined} href={paths.at(-1)} onClick={(event) => name === place.name && event.preventDefault()}>
            {name}
          </a>
        ))}
      </nav>
      <Guard>
        <place.Page />
      </Guard>
      <Notes />
      {open.value === "palette" && <Palette commands={commands} entries={place.entries} />}
      {open.value === "help" && <Help commands={commands} />}
    </>
  );
}
