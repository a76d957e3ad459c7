import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { percent } from "../../numbers.ts";
import { open } from "../keys.ts";
import { chooseComponent, nComponents, picture, wanted } from "./state.ts";

const ROW = 28; // px, as in the style sheet
const SHOWN = 10;

/** The components of the site with the share of variance of each; only the rows in sight are in the page. */
function List({ shares, n, close }: { shares: readonly number[]; n: number; close: () => void }) {
  const [active, setActive] = useState(wanted.value.component);
  const [top, setTop] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    const el = box.current!;
    const above = active * ROW;
    if (above < el.scrollTop || above + ROW > el.scrollTop + el.clientHeight) el.scrollTop = above - (el.clientHeight - ROW) / 2;
    setTop(el.scrollTop);
  }, [active]);
  useLayoutEffect(() => input.current!.select(), []);
  const choose = (component: number): void => {
    chooseComponent(component);
    close();
  };
  const move = (component: number): void => setActive(Math.max(0, Math.min(n - 1, component)));
  const key = (event: KeyboardEvent): void => {
    const steps: Record<string, number> = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + SHOWN, PageUp: active - SHOWN };
    if (event.key in steps) move(steps[event.key]);
    else if (event.key === "Enter") choose(active);
    else return;
    event.preventDefault();
  };
  const first = Math.max(0, Math.floor(top / ROW) - 4);
  const rows = Array.from({ length: Math.min(n - first, SHOWN + 10) }, (_, i) => first + i);
  const most = Math.max(...shares.slice(0, 1), 1e-9);
  return (
    <div class="picker" role="dialog" aria-label="Choose a component">
      <label>
        Component
        <input
          ref={input}
          type="number"
          min="0"
          max={n - 1}
          value={wanted.value.component}
          aria-controls="components"
          aria-activedescendant={`component-${active}`}
          onInput={({ currentTarget: { valueAsNumber } }) => Number.isInteger(valueAsNumber) && move(valueAsNumber)}
          onKeyDown={key}
        />
        <span>0 to {n - 1}</span>
      </label>
      <div class="head" aria-hidden="true">
        <span />
        <span>share of variance</span>
        <span>together</span>
      </div>
      <div class="rows" ref={box} id="components" role="listbox" aria-label="Components" tabIndex={-1} onScroll={({ currentTarget }) => setTop(currentTarget.scrollTop)}>
        <div style={{ height: `${n * ROW}px` }}>
          {rows.map((component) => (
            <button
              key={component}
              id={`component-${component}`}
              type="button"
              role="option"
              tabIndex={-1}
              aria-selected={component === wanted.value.component}
              class={component === active ? "active" : ""}
              style={{ top: `${component * ROW}px` }}
              onClick={() => choose(component)}
            >
              <span>PCA {component}</span>
              {shares[component] !== undefined && (
                <>
                  <i style={{ width: `${(100 * shares[component]) / most}%` }} />
                  <span>{percent(shares[component])}</span>
                  <span class="sum">{percent(shares.slice(0, component + 1).reduce((sum, share) => sum + share, 0))}</span>
                </>
              )}
            </button>
          ))}
        </div>
      </div>
    </div>
  );
}

export function ComponentPicker() {
  const wrap = useRef<HTMLSpanElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const shown = open.value === "picker";
  useEffect(() => {
    if (!shown) return;
    const outside = (event: Event): void => {
      if (!wrap.current!.contains(event.target as Node)) open.value = null;
    };
    addEventListener("pointerdown", outside);
    return () => {
      removeEventListener("pointerdown", outside);
      if (document.activeElement === document.body || wrap.current?.contains(document.activeElement)) button.current?.focus();
    };
  }, [shown]);
  const pca = picture.value?.pca;
  return (
    <span class="anchor" ref={wrap}>
      <button ref={button} class="word" type="button" aria-haspopup="dialog" aria-expanded={shown} aria-label={`Component: PCA ${wanted.value.component}`} onClick={() => (open.value = shown ? null : "picker")}>
        PCA {wanted.value.component}
      </button>
      {shown && <List shares={pca?.site && !stale() ? pca.shares : []} n={nComponents.value} close={() => (open.value = null)} />}
    </span>
  );
}

function stale(): boolean {
  const { kind, layer } = wanted.value;
  return picture.value?.kind !== kind || picture.value.layer !== layer;
}
