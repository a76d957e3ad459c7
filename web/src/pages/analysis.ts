// A result that is computed when it is asked for: how far it is, what is known of it already, what went wrong.

import { useEffect, useRef, useState } from "preact/hooks";
import { hold } from "./hold.ts";
import { isAbort, server } from "./server.ts";
import { type Trouble, troubleOf, type Work } from "./status.tsx";

export interface Analysis {
  work: Work | null;
  data: Uint8Array | null;
  trouble: Trouble | null;
}

/** One analysis at a time; asking for the next, or for none, gives up the one before. */
export function useAnalysis(): { found: Analysis | null; ask: (path: string, body: Readonly<Record<string, unknown>>) => void; drop: () => void } {
  const [found, setFound] = useState<Analysis | null>(null);
  const current = useRef<AbortController | null>(null);
  const drop = (): void => {
    current.current?.abort();
    setFound(null);
  };
  useEffect(() => () => current.current?.abort(), []);
  const ask = (path: string, body: Readonly<Record<string, unknown>>): void => {
    current.current?.abort();
    const controller = (current.current = new AbortController());
    const put = (changed: Partial<Analysis>): void => {
      if (current.current === controller) setFound((before) => ({ data: before?.data ?? null, work: null, trouble: null, ...changed }));
    };
    const stop = (): void => {
      put({ trouble: { kind: "stopped" } });
      controller.abort();
    };
    const work = { stop, hold: () => void hold(path, body) };
    setFound({ work: { ...work, progress: null }, data: null, trouble: null });
    server
      .analysis(path, body, (progress, soFar) => put({ work: { ...work, progress }, ...(soFar && { data: soFar }) }), controller.signal)
      .then(
        (data) => put({ data }),
        (error) => isAbort(error) || put({ trouble: troubleOf(error) }),
      );
  };
  return { found, ask, drop };
}
