import { library } from "./library.ts";
import { isSomebody } from "./me.tsx";
import { say } from "./notes.tsx";
import { wordsOf } from "./server.ts";

/** Lets an analysis go on without the page that asked for it, or keeps what it gave. */
export async function hold(kind: string, settings: Readonly<Record<string, unknown>>, done = "It goes on when you leave this page."): Promise<void> {
  if (!isSomebody()) return;
  try {
    const { id } = await library.startRun(kind, settings);
    say(done, { link: { href: `/runs?id=${id}`, text: "See your runs" }, seconds: 6 });
  } catch (error) {
    say(wordsOf(error));
  }
}
