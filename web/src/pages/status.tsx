// What is going on: nothing under 100 ms, a moving line after, how far and a way to stop after a second; what went wrong, and again.

import { useEffect, useState } from "preact/hooks";
import { mayPass, type Progress, queued, ServerError } from "./server.ts";

export interface Work {
  stop: () => void;
  hold?: () => void; // lets it go on without this page
  progress: Progress | null;
}

export type Trouble = { kind: "stopped" } | { kind: "failed"; status: number; again: boolean; message: string; hint: string };

export function troubleOf(error: unknown): Trouble {
  if (error instanceof ServerError) return { kind: "failed", status: error.status, again: mayPass(error), message: error.message, hint: error.hint };
  console.error(error);
  return { kind: "failed", status: 500, again: true, message: "The page could not read the server's answer.", hint: error instanceof Error ? error.message : String(error) };
}

/** True once `since` lies further back than `ms`. */
export function useLate(since: unknown, ms: number): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    setLate(false);
    if (since === null || since === false) return;
    const timer = setTimeout(() => setLate(true), ms);
    return () => clearTimeout(timer);
  }, [since]);
  return late;
}

interface StatusProps {
  work: Work | null;
  trouble: Trouble | null;
  retry: () => void;
  still: string | null; // what is shown nevertheless
}

export function Status({ work, trouble, retry, still }: StatusProps) {
  const late = useLate(work !== null, 100);
  const long = useLate(work !== null, 1000);
  if (trouble) {
    const title = trouble.kind === "stopped" ? "Stopped." : trouble.status === 0 ? "The server does not answer." : "This could not be computed.";
    return (
      <div class="panel trouble" role="alert">
        <h2>{title}</h2>
        {trouble.kind === "failed" && (
          <p>
            {trouble.status !== 0 && trouble.message} {trouble.hint}
          </p>
        )}
        <p>
          {(trouble.kind === "stopped" || trouble.again) && (
            <button type="button" class="solid" onClick={retry}>
              Try again
            </button>
          )}
          {still !== null && <span> Below is still {still}.</span>}
        </p>
      </div>
    );
  }
  if (!work || !late) return <div class="line" />;
  const { progress, stop, hold } = work;
  const share = progress && progress.total > 0 ? progress.done / progress.total : null;
  return (
    <>
      <div class="line busy" role="progressbar" aria-label="Working" aria-valuenow={share === null ? undefined : Math.round(share * 100)}>
        <i style={share === null ? undefined : { width: `${share * 100}%`, animation: "none" }} />
      </div>
      {(long || queued.value !== null) && (
        <p class="progress" role="status">
          <span>
            {queued.value !== null
              ? `The server is busy; asking again in ${queued.value} s.`
              : progress
                ? `${progress.what}: ${progress.done} of ${progress.total}`
                : "Waiting for the server…"}
          </span>
          <button type="button" onClick={stop}>
            Stop
          </button>
          {hold && (
            <button type="button" title="It goes on when you leave this page" onClick={hold}>
              Go on in Runs
            </button>
          )}
        </p>
      )}
    </>
  );
}
