// Who works here: a name at one's own machine, a name and a password where the server is for several.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { open, useClose } from "./keys.ts";
import { library, me } from "./library.ts";
import { say } from "./notes.tsx";
import { wordsOf } from "./server.ts";

/** Asks who one is, unless that is known. */
export async function learnMe(): Promise<void> {
  me.value = await library.me();
}

/** Whether it is known who works here; where not, it is asked. */
export function isSomebody(): boolean {
  if (me.value?.name) return true;
  open.value = "me";
  say("Say who you are first: what is kept has an owner.", { seconds: 4 });
  return false;
}

export function Me() {
  useEffect(() => void learnMe().catch(() => {}), []); // the page says itself where the server does not answer
  const known = me.value;
  if (!known) return null;
  const shown = open.value === "me";
  return (
    <span class="anchor me">
      <button type="button" class="chip" aria-label={known.name ?? "who are you?"} aria-haspopup="dialog" aria-expanded={shown} onClick={() => (open.value = shown ? null : "me")}>
        {known.name ?? (known.sign_in ? "sign in" : "name?")}
      </button>
      {shown && <Door key={known.name} />}
    </span>
  );
}

function Door() {
  const known = me.value!;
  const [name, setName] = useState(known.name ?? "");
  const [password, setPassword] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current!.focus(), []);
  const close = useClose();
  const run = async (act: () => Promise<typeof known>): Promise<void> => {
    try {
      me.value = await act();
      close();
    } catch (error) {
      setProblem(wordsOf(error));
    }
  };
  return (
    <form
      class="picker door"
      aria-label="Who works here"
      onSubmit={(event) => {
        event.preventDefault();
        void run(() => library.enter(name.trim(), known.sign_in ? password : null));
      }}
    >
      <p>{known.name ? `Working as ${known.name}.` : known.sign_in ? "Sign in to keep and change things." : "Everybody here is at this machine: a name is enough."}</p>
      <label>
        Name <input value={name} autocomplete="username" ref={input} onInput={({ currentTarget }) => setName(currentTarget.value)} />
      </label>
      {known.sign_in && (
        <label>
          Password <input type="password" value={password} autocomplete="current-password" onInput={({ currentTarget }) => setPassword(currentTarget.value)} />
        </label>
      )}
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <p>
        <button type="submit" class="solid" disabled={!name.trim()}>
          {known.sign_in ? "Sign in" : "Work under this name"}
        </button>
        {known.name && (
          <button type="button" onClick={() => void run(library.leave)}>
            {known.sign_in ? "Sign out" : "Be nobody"}
          </button>
        )}
      </p>
    </form>
  );
}
