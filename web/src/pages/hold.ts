import { library } from "./library.ts";
import { isSomebody } from "./me.tsx";
import { say } from "./notes.tsx";
import { wordsOf } from "./server.ts";

/** Lets an analysis go on without the page that asked for it. */
export async function hold(kind: string, settings: Readonly<Record<string, unknown>>): Promise<void> {
  if (!isSomebody()) return;
  try {
    const { id } = await library.startRun(kind, settings);
    say("It goes on when you leave this page.", { link: { href: `/runs?id=${id}`, text: "See your runs" }, seconds: 6 });
  } catch (error) {
    say(wordsOf(error));
  }
}
