import { useLayoutEffect, useRef } from "preact/hooks";
import { hostedModel, type Model, type View } from "../host.ts";

interface HostedProps {
  view: View;
  keys: Record<string, unknown>; // of the view's model
  on: Record<string, (value: any) => void>; // what to do when the view changes one
}

/** A view inside the page: the page is a host like a notebook is. */
export function Hosted({ view, keys, on }: HostedProps) {
  const el = useRef<HTMLDivElement>(null);
  const model = useRef<Model | null>(null);
  const writing = useRef(false);
  const listeners = useRef(on);
  listeners.current = on;
  useLayoutEffect(() => {
    const hosted = (model.current = hostedModel({ bare: true, ...keys }));
    for (const key of Object.keys(on)) hosted.on(`change:${key}`, () => writing.current || listeners.current[key](hosted.get(key)));
    return view.render({ model: hosted, el: el.current! });
  }, [view]);
  useLayoutEffect(() => {
    writing.current = true;
    for (const [key, value] of Object.entries(keys)) model.current!.set(key, value);
    writing.current = false;
  });
  return <div ref={el} />;
}
