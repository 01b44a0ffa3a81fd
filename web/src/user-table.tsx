import type { User } from "../../gen/es/api_pb.ts";

interface Props {
  users: readonly User[];
  /** The id of each row, when they are known. */
  ids: readonly number[] | null;
}

// The roles repeat what the elements say, because on a phone the rows are
// laid out as cards and browsers drop a table's meaning with its layout.
export function UserTable({ users, ids }: Props) {
  return (
    <table role="table" aria-label="Users found">
      <thead role="rowgroup">
        <tr role="row">
          {ids && (
            <th role="columnheader" scope="col" class="id">
              Id
            </th>
          )}
          <th role="columnheader" scope="col" class="user">
            Name
          </th>
          <th role="columnheader" scope="col" class="age">
            Age
          </th>
          <th role="columnheader" scope="col" class="email">
            Email
          </th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        {users.map((user, row) => (
          <tr role="row" key={row}>
            {ids && (
              <td role="cell" class="id">
                {ids[row]}
              </td>
            )}
            <th role="rowheader" scope="row" class="user">
              <span class="monogram" aria-hidden="true">
                {monogram(user.name)}
              </span>
              <span>{user.name || "no name"}</span>
            </th>
            <td role="cell" class="age">
              {user.age}
            </td>
            <td role="cell" class="email">
              <Email address={user.email} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Breaks, where it must, after the @. */
function Email({ address }: { address: string }) {
  const domain = address.indexOf("@") + 1;
  if (domain === 0) return <>{address}</>;
  return (
    <>
      {address.slice(0, domain)}
      <wbr />
      {address.slice(domain)}
    </>
  );
}

/** First and last initial; by code point, so no letter is cut in half. */
function monogram(name: string): string {
  const words = name.split(/\s+/).filter((word) => word !== "");
  const initials = [words[0], words.length > 1 ? words.at(-1) : undefined];
  return initials.map((word) => (word ? (Array.from(word)[0] ?? "") : "")).join("").toUpperCase();
}
