// The page: a card for each hook that the address asks for. What follows the # is JSON: {apiUrl, token?, cards: [{hook, …}]}, where a
// card may have a token of its own, and the properties that its component in cards.jsx takes.

import "@fontsource-variable/inter";
import "@fontsource-variable/jetbrains-mono";
import "./style.css";

import { TriggerAuthContext } from "@trigger.dev/react-hooks";
import { createRoot } from "react-dom/client";

import * as cards from "./cards.jsx";
import { Header } from "./frame.jsx";

const asked = JSON.parse(decodeURIComponent(location.hash.slice(1)));

function Page() {
  return (
    <TriggerAuthContext.Provider value={{ baseURL: asked.apiUrl, accessToken: asked.token }}>
      <Header apiUrl={asked.shownUrl ?? asked.apiUrl} />
      <main>
        {asked.cards.map(({ hook, ...properties }, place) => {
          const Card = cards[hook];
          return <Card key={place} {...properties} />;
        })}
      </main>
    </TriggerAuthContext.Provider>
  );
}

createRoot(document.getElementById("root")).render(<Page />);
