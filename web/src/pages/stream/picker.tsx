import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { percent } from "../../numbers.ts";
import { open } from "../keys.ts";
import { component as componentNumber, componentOf, siteName } from "./address.ts";
import { DirectionForm } from "./direction_form.tsx";
import { choose, chooseComponent, type How, nComponents, picture, wanted } from "./state.ts";

const ROW = 28; // px, as in the style sheet
const SHOWN = 10;

/** The components of the site with the share of variance of each; only the rows in sight are in the page. */
function List({ shares, n, how, close }: { shares: readonly number[]; n: number; how: How; close: () => void }) {
  const current = componentOf(wanted.value);
  const [active, setActive] = useState(current ?? 0);
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
  const take = (component: number): void => {
    if (how === "alone") chooseComponent(component);
    else void choose(componentNumber(component), how);
    close();
  };
  const move = (component: number): void => setActive(Math.max(0, Math.min(n - 1, component)));
  const key = (event: KeyboardEvent): void => {
    const steps: Record<string, number> = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + SHOWN, PageUp: active - SHOWN };
    if (event.key in steps) move(steps[event.key]);
    else if (event.key === "Enter") take(active);
    else return;
    event.preventDefault();
  };
  const first = Math.max(0, Math.floor(top / ROW) - 4);
  const rows = Array.from({ length: Math.min(n - first, SHOWN + 10) }, (_, i) => first + i);
  const most = Math.max(...shares.slice(0, 1), 1e-9);
  return (
    <>
      <label>
        Component
        <input
          ref={input}
          type="number"
          min="0"
          max={n - 1}
          value={current ?? undefined}
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
              aria-selected={component === current}
              class={component === active ? "active" : ""}
              style={{ top: `${component * ROW}px` }}
              onClick={() => take(component)}
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
    </>
  );
}

const HOW: Record<string, How | undefined> = { picker: "alone", mixer: "mixed", besider: "beside" };
const TITLES: Record<How, string> = { alone: "Choose a direction", mixed: "Add a direction", beside: "Put a direction beside" };

/** What is shown along; it opens the components and every other kind of direction, to be shown, mixed in, or put beside. */
export function DirectionPicker() {
  const wrap = useRef<HTMLSpanElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const how = HOW[open.value ?? ""];
  const shown = how !== undefined;
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
  const number = componentOf(wanted.value);
  const { rows } = wanted.value;
  const name = number !== null ? `PCA ${number}` : rows.length > 1 ? `a sum of ${rows.length}` : (picture.value?.name ?? "…");
  const close = (): void => void (open.value = null);
  return (
    <span class="anchor" ref={wrap}>
      <button ref={button} class="word" type="button" aria-haspopup="dialog" aria-expanded={shown} aria-label={`Direction: ${name}`} title={name} onClick={() => (open.value = shown ? null : "picker")}>
        {name}
      </button>
      {shown && (
        <div class="picker" role="dialog" aria-label={TITLES[how]}>
          <List shares={pca?.site && !stale() ? pca.shares : []} n={nComponents.value} how={how} close={close} />
          <DirectionForm key={how} how={how} />
        </div>
      )}
    </span>
  );
}

const stale = (): boolean => picture.value?.site !== siteName(wanted.value);
