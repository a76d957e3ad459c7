// Saving what is shown: as a direction of one's own, or as the next revision of one.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useClose } from "../keys.ts";
import { library, me, type Saved } from "../library.ts";
import { say } from "../notes.tsx";
import { wordsOf } from "../server.ts";
import { alongOf, picture } from "./state.ts";

export function SaveForm() {
  const now = picture.value!;
  const [mine, setMine] = useState<Saved[]>([]);
  const [onto, setOnto] = useState<number | null>(null); // a direction of one's own, to be revised
  const [name, setName] = useState(now.name);
  const [description, setDescription] = useState("");
  const [tags, setTags] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current!.select(), []);
  useEffect(() => {
    library.find({ words: "", owner: me.value!.name, site: "", tag: "", deleted: false, start: 0, count: 1000 }).then(({ directions }) => setMine(directions), (error) => setProblem(wordsOf(error)));
  }, []);
  const close = useClose();
  const save = async (): Promise<void> => {
    const asked = { site: now.site, along: alongOf(now) };
    try {
      const saved =
        onto === null
          ? await library.save({ ...asked, name, description, tags: tags.split(",").map((tag) => tag.trim()).filter(Boolean) })
          : await library.revise(onto, asked);
      close();
      say(`“${saved.name}” is saved${onto === null ? "" : `, as revision ${saved.revision}`}.`, { link: { href: `/saved?id=${saved.id}`, text: "See it" } });
    } catch (error) {
      setProblem(wordsOf(error));
    }
  };
  return (
    <form
      class="panel save"
      aria-label="Save this direction"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      {mine.length > 0 && (
        <label>
          <span>Save it as</span>
          <select value={onto ?? ""} onChange={({ currentTarget }) => setOnto(currentTarget.value ? Number(currentTarget.value) : null)}>
            <option value="">a new direction</option>
            {mine.map((one) => (
              <option key={one.id} value={one.id}>
                the next revision of {one.name}
              </option>
            ))}
          </select>
        </label>
      )}
      {onto === null && (
        <>
          <label>
            <span>Name</span>
            <input value={name} ref={input} onInput={({ currentTarget }) => setName(currentTarget.value)} />
          </label>
          <label>
            <span>What it means</span>
            <textarea rows={2} value={description} placeholder="if you can tell" onInput={({ currentTarget }) => setDescription(currentTarget.value)} />
          </label>
          <label>
            <span>Tags</span>
            <input value={tags} placeholder="with commas between" onInput={({ currentTarget }) => setTags(currentTarget.value)} />
          </label>
        </>
      )}
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <p class="answers">
        <button type="submit" class="solid">
          Save
        </button>
        <button type="button" onClick={close}>
          Cancel
        </button>
        <small>{now.site}, of length one, as {me.value?.name}</small>
      </p>
    </form>
  );
}
