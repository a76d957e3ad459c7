// The sliders: a sum of directions, each with its weight. What moves here repaints the texts from what the page holds.

import { Word } from "../../views/legend.tsx";
import { open } from "../keys.ts";
import type { DirectionFacts } from "../server.ts";
import type { Row } from "./address.ts";
import { change, changeRow, picture, removeRow, rowFacts, wanted } from "./state.ts";
import { basisOf, dot, projectOut, sounding } from "./sum.ts";

const REACH = 2; // of a slider, on each side; a typed weight may be any

const cosine = (a: { cosines: ArrayLike<number> }, b: { cosines: ArrayLike<number> }): string => dot(a.cosines, b.cosines).toFixed(2).replace("-0.00", "0.00").replace("-", "−");

function Slider({ row, index, facts, all }: { row: Row; index: number; facts: DirectionFacts | undefined; all: readonly (DirectionFacts | undefined)[] }) {
  const { weight, muted } = row;
  const name = facts?.name ?? "…";
  const { rows } = wanted.value;
  const solo = rows.length > 1 && !muted && rows.every((other, i) => i === index || other.muted);
  const sum = picture.value?.sum;
  const near = facts && all.flatMap((other, i) => (other && i !== index ? [`${cosine(facts, other)} to ${other.name}`] : []));
  const take = (field: HTMLInputElement): void => {
    if (Number.isFinite(field.valueAsNumber)) changeRow(index, { weight: field.valueAsNumber });
    else field.value = String(weight); // emptied: the weight stays, and is seen to
  };
  return (
    <li class={muted ? "muted" : ""}>
      <span class="name" title={near?.length ? `${name}; cosine ${near.join(", ")}` : name}>
        {name}
      </span>
      <input type="range" aria-label={`Weight of ${name}`} min={-REACH} max={REACH} step="0.01" value={weight} onInput={({ currentTarget }) => take(currentTarget)} />
      <input type="number" aria-label={`Weight of ${name}, typed`} step="0.1" value={weight} onChange={({ currentTarget }) => take(currentTarget)} />
      <span class="cosine" title="Cosine to the sum">
        {facts && sum ? cosine(facts, sum) : ""}
      </span>
      <button
        type="button"
        aria-pressed={solo}
        title="Hear this one alone"
        disabled={rows.length < 2}
        onClick={() => change({ rows: rows.map((other, i) => ({ ...other, muted: solo ? false : i !== index })) })}
      >
        solo
      </button>
      <button type="button" aria-pressed={muted} title="Leave it out, and keep its weight" onClick={() => changeRow(index, { muted: !muted })}>
        mute
      </button>
      <button
        type="button"
        aria-label={`Take the others out of ${name}`}
        title="Take the others out of this one: what is left is at right angles to them"
        disabled={rows.length < 2 || all.some((one) => !one)}
        onClick={() => {
          const weights = projectOut(all as DirectionFacts[], index);
          change({ rows: rows.map((other, i) => ({ ...other, weight: weights[i], muted: false })) }, { push: true });
        }}
      >
        ⊥ others
      </button>
      <button type="button" aria-label={`Remove ${name}`} disabled={rows.length < 2} onClick={() => removeRow(index)}>
        ×
      </button>
    </li>
  );
}

/** Puts an orthonormal basis of the rows in their place; the first sounds, the others are muted. */
function makeBasis(facts: DirectionFacts[]): void {
  const { rows } = wanted.value;
  const basis = basisOf(facts).map((weights, i): Row => {
    const terms = rows.flatMap(({ of }, j) => (weights[j] ? [{ of, weight: weights[j] }] : []));
    return { weight: 1, of: terms.length === 1 ? terms[0].of : { kind: "sum", terms }, muted: i > 0 };
  });
  change({ rows: basis }, { push: true });
}

export function Mix() {
  const { rows, free, mixing } = wanted.value;
  if (!mixing) return null;
  const facts = rowFacts.value;
  const length = picture.value?.sum.length;
  return (
    <section class="mix" aria-label="Sliders">
      <ol>
        {rows.map((row, i) => (
          <Slider key={`${i} ${JSON.stringify(row.of)}`} row={row} index={i} facts={facts[i]} all={facts} />
        ))}
      </ol>
      <p>
        <button type="button" onClick={() => (open.value = "mixer")}>
          Add a direction
        </button>
        <button type="button" title="Each made into one at right angles to those before it" disabled={rows.length < 2 || facts.some((one) => !one)} onClick={() => makeBasis(facts as DirectionFacts[])}>
          Make them orthonormal
        </button>
        <span>
          The sum {length !== undefined && sounding(rows).length > 0 && `has the length ${length.toPrecision(3)}, and `}is shown{" "}
          <Word
            label="Length"
            value={free ? "free" : "unit"}
            options={[
              ["unit", "at length one"],
              ["free", "as long as it is"],
            ]}
            onChange={(value) => change({ free: value === "free" })}
          />
        </span>
      </p>
    </section>
  );
}
