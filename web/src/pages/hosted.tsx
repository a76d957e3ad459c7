import { useLayoutEffect, useRef } from "preact/hooks";
import { hostedModel, type Model, type View } from "../host.ts";
import type { Picked } from "../views/reading.ts";

interface HostedProps {
  view: View;
  keys: Record<string, unknown>; // of the view's model
  onPick: (picked: Picked) => void;
}

/** A view inside the page: the page is a host like a notebook is. */
export function Hosted({ view, keys, onPick }: HostedProps) {
  const el = useRef<HTMLDivElement>(null);
  const model = useRef<Model | null>(null);
  const writing = useRef(false);
  const pick = useRef(onPick);
  pick.current = onPick;
  useLayoutEffect(() => {
    const hosted = (model.current = hostedModel({ bare: true, ...keys }));
    hosted.on("change:picked", () => writing.current || pick.current(hosted.get("picked")));
    return view.render({ model: hosted, el: el.current! });
  }, [view]);
  useLayoutEffect(() => {
    writing.current = true;
    for (const [key, value] of Object.entries(keys)) model.current!.set(key, value);
    writing.current = false;
  });
  return <div ref={el} />;
}
